"""Imported first, so that a script of so many imports starts and ends in two thirds of the time.

It also gives a process without a home one, and says in one line which setting it is that Prefect, when it is imported,
does not take; in a worker's process, Prefect is imported before.

Imports make millions of objects that stay; looking for garbage among them, again and again, costs a third of it.
"""

import atexit
import gc
import sys
from contextlib import redirect_stderr
from io import StringIO

gc.set_threshold(100_000, 50, 100)
atexit.register(gc.freeze)


def _import_prefect() -> int:
    """Import it, and return 0, or the exit code if it cannot be imported with its settings; then only that is said."""
    from digitrec.private import provide_home
    from digitrec.terminal import outcome

    words = StringIO()

    def imports() -> None:
        with redirect_stderr(words):
            import prefect.main  # noqa: F401
        sys.stderr.write(words.getvalue())

    provide_home()
    return outcome(imports)


if code := _import_prefect():
    sys.exit(code)
