"""The tests' own process hears signals however it was started: by `&` in a script, nohup, cron, an init system."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment.conftest import ROOT

SCRIPT = """
import os, signal, subprocess, sys
import tests.conftest
try:
    signal.raise_signal(signal.SIGINT)
    heard = False
except KeyboardInterrupt:
    heard = True
signal.raise_signal(signal.SIGHUP)
kills = [subprocess.run(["sh", "-c", f"kill -{name} $$"]).returncode for name in ("INT", "HUP", "TERM")]
print(heard, *kills, [name for name in os.environ if name.lower().endswith("_proxy")], "HOME" in os.environ)
"""


def test_what_is_ignored_is_heard_again(tmp_path: Path) -> None:
    """SIGINT raises, children of the tests die of what they are sent, and a hang-up still does not end the tests."""
    proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "ALL_PROXY": "socks5://[::1]:9"}
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT HUP TERM; exec "$@"', "sh", sys.executable, "-c", SCRIPT],
        env=os.environ | proxies | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    signals = [-number for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)]
    assert done.stdout.split(" [")[0] == " ".join(map(str, (True, *signals))), done.stderr
    assert done.stdout.endswith("[] True\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_here_they_are_heard(number: int) -> None:
    """Whoever reads this in a log of a run in the background knows that it was no foreground run that passed."""
    assert signal.getsignal(number) is not signal.SIG_IGN
