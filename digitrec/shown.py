"""What comes from outside (names of files and columns, values, other programs' errors), made fit to be shown.

A name may hold whatever its owner likes: terminal codes that repaint the screen, marks that turn the reading direction
round, line feeds that forge a line of a log, backticks that leave a block of code, pictures that load from elsewhere.
`printable` is for terminals, logs, names and notifications, the others are for Markdown. Python's `!r` is no
substitute: it leaves Markdown as it is.
"""

import re
from collections.abc import Iterable

_MEANS_SOMETHING = re.compile(r"""[\\`*_{}\[\]()<>#+!|~&:@$^="]|(?<=www)\.""", re.IGNORECASE)
_STARTS_A_BLOCK = re.compile(r"[- ]|\d+[.)]")


def printable(text: str, limit: int | None = None) -> str:
    """Return `text` in one line, with whatever is not a visible character or a blank as an escape (`\\x1b`, `\\u202e`).

    Bytes of a file name that are not UTF-8 become `\\xff`. `limit`: characters of the result at most; what is cut ends
    in `…`, and no escape is cut in two. Applied twice it changes nothing more.
    """
    if text.isprintable() and (limit is None or len(text) <= limit):
        return text
    pieces = [character if character.isprintable() else _escape(character) for character in text]
    if limit is None or sum(map(len, pieces)) <= limit:
        return "".join(pieces)
    kept, room = [], limit - 1
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            break
        kept.append(piece)
    return "".join(kept) + "…"


def printable_lines(text: str) -> str:
    """`printable`, line by line: for what we broke into lines ourselves, such as a trace."""
    return "\n".join(map(printable, text.split("\n")))


def in_markdown(text: str, limit: int | None = None) -> str:
    """Return Markdown that shows `text` as it is, anywhere in a paragraph, a list or a table: no emphasis, code, link,
    picture, HTML or new block comes of it. `limit` as in `printable`, before anything is escaped.
    """
    plain = printable(text, limit)
    escaped = _MEANS_SOMETHING.sub(r"\\\g<0>", plain)
    # A reference to a character is never taken for the mark of a list or of an indented block (CommonMark 6.2).
    return f"&#{ord(plain[0])};{escaped[1:]}" if _STARTS_A_BLOCK.match(plain) else escaped


def fenced(lines: Iterable[str]) -> str:
    """Return a Markdown block that shows `lines` as they are; no line can end it."""
    shown = [printable(line) for line in lines]
    longest = max((len(run) for line in shown for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *shown, fence])


def _escape(character: str) -> str:
    """A surrogate stands for a byte that is not UTF-8 (PEP 383): it is shown as that byte."""
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
