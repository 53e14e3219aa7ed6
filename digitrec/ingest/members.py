"""Which texts of a source are read, and how each begins: the file itself, or the members of an archive with digits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from digitrec.errors import BadData
from digitrec.ingest.containers import Text
from digitrec.ingest.csv import SourceFile
from digitrec.ingest.dialect import few
from digitrec.ingest.header import Opening, read_opening
from digitrec.options import ReadOptions
from digitrec.shown import printable

_PAPERS: Final = {"readme", "license", "licence", "copying", "notice", "changelog", "about"}
_TABLES: Final = {".csv", ".tsv", ".tab", ".data", ".gz", ".zst", ".bz2", ".xz", ".parquet"}
"""A member with such a name, or named like one that can be read, refuses the archive if it cannot be read; a read-me or
a licence is left out."""


@dataclass(frozen=True)
class Reading:
    """One text of a source, and how it is read."""

    text: Text
    opening: Opening

    def name(self, source: SourceFile) -> str:
        """The source, and which member of it, for people and for rejects: `digits.zip!train.csv`."""
        return source.name if self.text.member is None else f"{source.name}!{self.text.member}"


def readings_of(source: SourceFile, options: ReadOptions) -> tuple[list[Reading], list[str]]:
    """What is read of a source, in order, and what a person should know of it.

    Raises `BadData` for a source that is no CSV of digits, or an archive of which it is not clear what is meant.
    """
    where = source.where
    texts = source.texts(in_order=options.in_order)
    if [text.member for text in texts] == [None]:
        if options.member:
            raise BadData(f"{where} is no archive: --member names files in one; leave it out")
        opening = read_opening(source.head(texts[0]), where, options)
        return [Reading(texts[0], opening)], list(opening.notes)
    if options.member:
        texts = _chosen(texts, options.member, where)
        readings = [Reading(text, read_opening(source.head(text), _named(where, text), options)) for text in texts]
        return readings, _notes(readings)
    readings, others = _sorted_out(source, texts, where, options)
    if not readings:
        found = few(str(text.member) for text in texts) if texts else "nothing"
        why = f"; {next(iter(others.values()))}" if others else ""
        raise BadData(f"{where} is an archive without a CSV of digits (it holds {found}){why}")
    _refuse_mixture(readings, others, where)
    left_out = [f"left out of {printable(source.name)}: {few(others)}"] if others else []
    hidden = [f"left out of {printable(source.name)}: {source.hidden:,} hidden files"] if source.hidden else []
    return readings, [*_notes(readings), *left_out, *hidden]


def _named(where: str, text: Text) -> str:
    return f"{where}!{printable(str(text.member), 80)}"


def _chosen(texts: Sequence[Text], wanted: Sequence[str], where: str) -> list[Text]:
    """The members that `--member` names, by their whole name or its last part. Raises `BadData` for one that is not
    there, or there in several folders."""
    chosen: list[Text] = []
    for name in wanted:
        found = [text for text in texts if name in {text.member, PurePosixPath(str(text.member)).name}]
        if len(found) != 1:
            there = few(str(text.member) for text in found or texts)
            raise BadData(f"{where} has {len(found) or 'no'} members called {printable(name, 80)!r}: {there}")
        chosen += [text for text in found if text not in chosen]
    return [text for text in texts if text in chosen]


def _sorted_out(
    source: SourceFile, texts: Sequence[Text], where: str, options: ReadOptions
) -> tuple[list[Reading], dict[str, str]]:
    """Members that can be read, and the others with the reason. Raises `BadData` for one that is damaged."""
    readings, others = [], {}
    for text in texts:
        head = source.head(text)
        try:
            readings.append(Reading(text, read_opening(head, _named(where, text), options)))
        except BadData as error:
            others[str(text.member)] = str(error)
    return readings, others


def _refuse_mixture(readings: Sequence[Reading], others: dict[str, str], where: str) -> None:
    """Raise `BadData`, naming `--member`, for members of several layouts, or for tables that cannot be read."""
    layouts = {reading.opening.layout.optional: str(reading.text.member) for reading in readings}
    kinds = _TABLES | {_kind(str(reading.text.member)) for reading in readings}
    tables = [name for name in others if _kind(name) in kinds and PurePosixPath(name).stem.lower() not in _PAPERS]
    if len(layouts) == 1 and not tables:
        return
    found = [f"{printable(name, 80)!r} with {columns}" for columns, name in layouts.items()]
    found += [
        f"{printable(name, 80)!r}, which cannot be read ({others[name].rpartition('!')[2][:200]})"
        for name in tables[:3]
    ]
    raise BadData(
        f"{where} holds several layouts: {'; '.join(found)}. Say which file is meant, "
        f"--member {printable(str(readings[0].text.member), 80)}"
    )


def _kind(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _notes(readings: Sequence[Reading]) -> list[str]:
    """Each note once; members of one layout mostly say the same."""
    return list(dict.fromkeys(note for reading in readings for note in reading.opening.notes))
