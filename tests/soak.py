"""For `make soak`: hours that can be interrupted. What has passed with the same code is not run again, and `soak.json`
tells at any moment how far it is, and what failed. `python -m pytest -p tests.soak -m soak`."""

import hashlib
import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

SUMMARY = Path(os.environ.get("SOAK_SUMMARY", "soak.json"))
CODE = Path(__file__).parents[1]
ROOMS = ("digitrec", "flows", "deployments", "tests")


def code_digest() -> str:
    """Of all that could make a test come out otherwise."""
    files = sorted(path for room in ROOMS for path in (CODE / room).rglob("*") if path.suffix in {".py", ".yaml"})
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


class Soak:
    """The outcome and seconds of each test, by its id, kept in the summary as they come."""

    def __init__(self, summary: Path) -> None:
        self.summary, self.code = summary, code_digest()
        self.tests: dict[str, dict[str, Any]] = {}
        if summary.exists():
            before = json.loads(summary.read_text())
            self.tests = before["tests"] if before["code"] == self.code else {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        done = [item for item in items if self.tests.get(item.nodeid, {}).get("outcome") == "passed"]
        config.hook.pytest_deselected(items=done)
        items[:] = [item for item in items if item not in done]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            self.tests[report.nodeid] = {"outcome": report.outcome, "seconds": round(report.duration, 1)}
            self.write()

    def write(self) -> None:
        """Replace the summary; whoever interrupts this finds the one before."""
        names = [(nodeid.partition("[")[0], entry["outcome"]) for nodeid, entry in self.tests.items()]
        body = {
            "code": self.code,
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            "outcomes": dict(Counter(outcome for _, outcome in names)),
            "by_test": {f"{name}: {outcome}": count for (name, outcome), count in sorted(Counter(names).items())},
            "failed": [nodeid for nodeid, entry in self.tests.items() if entry["outcome"] == "failed"],
            "tests": self.tests,
        }
        fresh = self.summary.with_suffix(".tmp")
        fresh.write_text(json.dumps(body, indent=1) + "\n")
        fresh.replace(self.summary)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Soak(SUMMARY.absolute()), "soak")
