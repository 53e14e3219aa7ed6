"""Dataset × model version to published predictions. Never imports lightning: a worker must start quickly."""
