"""Imported first by each flow, before Prefect.

Imports make millions of objects that stay; looking for garbage among them, again and again, costs a third of a script's
time. And a script is a process of ours from its first moment on: a signal may come, and a channel may be closed, while
Prefect is imported; as process 1 the kernel would spare it the signal. In a worker's process that only loads the flow,
signals and channels are the worker's business.

It also gives a process without a home one, and says in one line which setting it is that Prefect, when it is imported,
does not take; in a worker's process, Prefect is imported before.
"""

import atexit
import gc
import os
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from digitrec.process import end_process, prepare_process

gc.set_threshold(100_000, 50, 100)
atexit.register(gc.freeze)

# Prefect's client asks this variable, and nothing else, whether it may report events of its use to its makers.
os.environ.setdefault("DO_NOT_TRACK", "1")

script = getattr(sys.modules["__main__"], "__file__", None)
if script and Path(script).resolve().parent == Path(__file__).resolve().parent:
    prepare_process()


def _import_prefect() -> int:
    """Import it, and return 0, or the exit code if it cannot be imported with its settings; then only that is said."""
    from digitrec.private import provide_home
    from digitrec.terminal import outcome

    words = StringIO()

    def imports() -> None:
        provide_home()
        with redirect_stderr(words):
            import prefect.main  # noqa: F401
        sys.stderr.write(words.getvalue())

    return outcome(imports)


if code := _import_prefect():
    end_process(code)
