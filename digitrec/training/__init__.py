"""Dataset → model version. The only room that imports lightning; `run.train` is its door."""
