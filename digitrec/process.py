"""The process of a command: how it ends on a signal, and what becomes of its output.

Light on imports: a script takes this first, so that what follows, imports included, is covered.
"""

import atexit
import errno
import io
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, TextIO

from digitrec.init import leave_process_one

INTERRUPTED = "interrupted; nothing half-done is visible, the same command goes on"
INTERRUPTED_CODE = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S = 2.0
"""Time to end in order: to tell Prefect, stop workers, release locks. Whatever is left, children end when their pipe to
this process does, and the next run goes on from what is on the disk."""
AGAIN_S = 0.02

_in_order = False
_interrupted = False
_told = False
_code: int | None = None
_again: int | None = None
_numbers: tuple[int, int] | None = None


def prepare_process() -> None:
    """Make signals end this process in time, and its output harmless; process 1 goes on in a child.

    To be called before any thread is started, by the main thread; once more does nothing, but to watch signals again
    that a library has taken meanwhile.
    """
    leave_process_one()
    _open_channels()
    _watch_signals()


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Raise the first signal inside as `KeyboardInterrupt`; outside, a signal ends the process at once."""
    global _in_order, _interrupted, _told, _code
    _in_order, _interrupted, _told, _code = True, False, False, None
    try:
        yield
    finally:
        _in_order = False


def was_interrupted() -> bool:
    """Whether a signal has hit the command: what went wrong since then is a consequence."""
    return _interrupted


def keep_signals() -> None:
    """Handle the signals again, if this process was prepared: Prefect takes SIGTERM for itself, in our scripts too.

    In a worker's process Prefect's own handler stays: it knows of cancelling.
    """
    if _numbers is not None:
        _watch_signals()


def is_interrupt(kind: type[BaseException]) -> bool:
    """Whether errors of this kind are what a signal raises: ours, or Prefect's, whose handler stands for a moment."""
    return issubclass(kind, KeyboardInterrupt) or kind.__name__ == "TerminationSignal"


def tell_once() -> bool:
    """Whether nobody has said yet that the command was interrupted."""
    global _told
    before, _told = _told, True
    return not before


def end_process(code: int) -> NoReturn:
    """Exit with the code of a command that has ended: in a prepared process a signal ends it sooner, not otherwise.

    Exit handlers run, and threads that are no daemons come to their end.
    """
    global _code
    _flush()
    if _numbers is not None:
        _code = code
    sys.exit(code)


def _skip_finalization() -> None:
    """Leave when the exit handlers have run: all that were registered after this one, and logging's, which was before.

    Python would set signals back to their defaults, and then tear its modules down for a tenth of a second: a signal
    meanwhile would make a failure of what is done.
    """
    if _code is not None:
        logging.shutdown()
        _flush()
        os._exit(_code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


atexit.register(_skip_finalization)  # the first to be registered is the last to run


def _watch_signals() -> None:
    """Handle each of `SIGNALS`, but leave ignored what the caller of this process ignores, as nohup does."""
    global _numbers
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    if _numbers is None:
        _numbers = os.pipe()
        os.set_blocking(_numbers[1], False)
        arguments = (_numbers[0], threading.get_ident())
        threading.Thread(target=_count_down, args=arguments, name="signals", daemon=True).start()
    signal.set_wakeup_fd(_numbers[1], warn_on_full_buffer=False)
    sys.unraisablehook = _raise_again


def _forget_signals() -> None:
    """In a child: what signals it, signals neither its parent, whose pipe this is, nor a command, which it is not."""
    global _numbers
    if _numbers is None:
        return
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_DFL)
    for end in _numbers:
        os.close(end)
    _numbers = None
    sys.unraisablehook = sys.__unraisablehook__


os.register_at_fork(after_in_child=_forget_signals)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Handle the first signal in order, if there is an order, and any other by leaving."""
    global _in_order, _interrupted
    if not _in_order:
        _leave()
    if _is_importing(frame):
        _signal_later(number)
        return
    if not _interrupted:
        _drop_traces()
    _in_order, _interrupted = False, True
    raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported: an exception there leaves it half made, or aborts the process if it passes
    through C++ (torch), or is taken by the library for something else (pydantic's models)."""
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            return True
        frame = frame.f_back
    return False


def _signal_later(number: int) -> None:
    """Have the main thread signalled in a moment, by the thread that waits for signals.

    To start one could fail for want of memory, or need a lock that is held where the signal has hit.
    """
    global _again
    _again = number
    if _numbers is not None:
        with suppress(BlockingIOError):
            os.write(_numbers[1], bytes([number]))


def _drop_traces() -> None:
    """Let libraries log what becomes of the interrupt in their midst, but in a line each."""
    make = logging.getLogRecordFactory()

    def make_without_trace(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.exc_info = None
        return record

    logging.setLogRecordFactory(make_without_trace)


def _raise_again(lost: "sys.UnraisableHookArgs") -> None:
    """Repeat an interrupt that hit where nothing can be raised, as in a callback of a C library or in `__del__`."""
    global _in_order
    if not is_interrupt(lost.exc_type):
        sys.__unraisablehook__(lost)
        return
    _in_order = True
    for number in SIGNALS:
        if signal.getsignal(number) is _interrupt:
            _signal_later(number)  # what is called here cannot raise either
            return


def _count_down(numbers: int, main: int) -> None:
    """End the process some time after its first signal: a library may hold the main thread or swallow the exception.

    Until then the main thread is sent what `_signal_later` was asked for.
    """
    global _again
    while not set(os.read(numbers, 64)) & set(SIGNALS):
        pass
    end = time.monotonic() + GRACE_S
    while time.monotonic() < end:
        time.sleep(AGAIN_S)
        if _again is not None:
            number, _again = _again, None
            signal.pthread_kill(main, number)
    _leave()


def _leave() -> None:
    """End without a word of any library, and without waiting for threads."""
    if _code is not None:
        os._exit(_code)
    if tell_once():
        with suppress(OSError):
            os.write(2, f"error: {INTERRUPTED}\n".encode())
    os._exit(INTERRUPTED_CODE)


class Channel(io.FileIO):
    """Standard output or error that takes everything: what cannot be written is lost, and `lost` says why.

    A full disk, a reader that is gone, or a closed channel says nothing about what a command has done.
    """

    lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Return how many bytes were taken: all of them if none can be written any more."""
        try:
            while self.lost is None:
                if (written := super().write(data)) is not None:
                    return written
                select.select([], [self], [])  # a pipe that somebody made non-blocking, and that is full
        except OSError as error:
            self.lost = error
        return len(data)


def channel_of(stream: TextIO | None) -> Channel | None:
    """The channel below a text stream, if it is one that `prepare_process` has opened."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, Channel) else None


def _open_channels() -> None:
    """Open what is closed of standard input, output and error, and make the last two `Channel`s.

    If they stayed closed, the next file to be opened would get the number of one, and with it whatever is printed.
    """
    closed = [number for number in (0, 1, 2) if not _is_open(number)]
    for number in closed:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        os.set_inheritable(number, True)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _open_channel(1, sys.stdout, 1 in closed)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _open_channel(2, sys.stderr, 2 in closed)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _open_channel(number: int, before: TextIO | None, was_closed: bool) -> TextIO:
    """A stream of this number that encodes as the one before it did."""
    raw = Channel(number, "wb", closefd=False)
    if was_closed:
        raw.lost = OSError(errno.EBADF, "it is closed")
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors=getattr(before, "errors", None) or "backslashreplace",
        line_buffering=number == 2 or raw.isatty(),
    )
