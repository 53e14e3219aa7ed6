"""The first line of a source: what its columns are, or what the file looks like instead."""

from digitrec.errors import BadData
from digitrec.ingest.csv import Block, SourceFile
from digitrec.ingest.dialect import Layout, layout_from_header, layout_without_header
from digitrec.ingest.fields import LINE_MAX_BYTES

BOM = b"\xef\xbb\xbf"
EXPECTED = "expected CSV with the columns label,pixel0,…,pixel783 (label may be missing)"
LOOKS = {
    b"\x1f\x8b": "gzip: its name must end in .gz",
    b"\x28\xb5\x2f\xfd": "zstd: its name must end in .zst",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"PAR1": "Parquet",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
}


def read_header(source: SourceFile, block: Block, *, no_header: bool) -> tuple[Layout, int]:
    """The layout of a source from its first block, and where in the block its data begins.

    Raises `BadData`, saying what the file looks like, if its first line is no header (or no row, if `no_header`).
    """
    head = block.bytes(block.start, min(block.stop, block.start + LINE_MAX_BYTES + 1))
    refuse_other_formats(source, head)
    start = block.start + len(BOM) * head.startswith(BOM)
    line, newline, _ = head.removeprefix(BOM).partition(b"\n")
    if not newline and (len(line) > LINE_MAX_BYTES or b"\r" in line):
        raise BadData(
            f"{source.path}: one line of {source.bytes:,} bytes; CR line ends? {EXPECTED}, LF or CRLF line ends"
        )
    if no_header:
        return layout_without_header(line.count(b",") + 1, str(source.path)), start
    layout = layout_from_header(line.removesuffix(b"\r"), str(source.path))
    return layout, min(start + len(line) + 1, block.stop)


def refuse_other_formats(source: SourceFile, head: bytes) -> None:
    """Raise `BadData` for bytes that are no comma-separated text in UTF-8."""
    line = head.partition(b"\n")[0]
    looks = next((what for magic, what in LOOKS.items() if head.startswith(magic)), "")
    if not looks and b"\0" in line[:200]:
        looks = "binary, or UTF-16 text: save it as UTF-8"
    if not looks and b"," not in line:
        looks = next(
            (what for sign, what in ((b";", "separated by ;"), (b"\t", "separated by tabs")) if sign in line), ""
        )
    if looks:
        raise BadData(f"{source.path} looks like {looks}; {EXPECTED}")
