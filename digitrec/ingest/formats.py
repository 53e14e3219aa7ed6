"""What the first bytes of a file say that it is: containers that are read, and formats that are named when refused."""

import re
from typing import Final, Literal

Container = Literal["gzip", "zstd", "bzip2", "xz", "zip", "tar"]

_CONTAINERS: Final[tuple[tuple[bytes, Container], ...]] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PK\x07\x08", "zip"),
)
_TAR_AT: Final = 257
_SKIPPABLE: Final = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
"""A zstd file may begin with a frame that is skipped (RFC 8878, 3.1.2), as pzstd writes it."""
HEAD_BYTES: Final = 512
"""So many bytes tell every format here."""

_AS_CSV = "save or export it as CSV"
_IMAGES = "images as files are not read yet: write them as rows of a CSV"
_UNPACK = "unpack it first"
_MAGICS: Final[tuple[tuple[bytes, str, str], ...]] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch it with `git lfs pull`"),
    (b"%PDF-", "a PDF document", _AS_CSV),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (or another Office document)", "save it as CSV"),
    (b"{\\rtf", "a rich-text document", "save it as plain text"),
    (b"SQLite format 3\x00", "an SQLite database", _AS_CSV),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras, MATLAB 7.3, h5py)", _AS_CSV),
    (b"MATLAB 5.0 MAT-file", "a MATLAB file", "save it as CSV with `writematrix`"),
    (
        b"\x93NUMPY",
        "a NumPy array (.npy)",
        "save it as CSV: numpy.savetxt(name, array.reshape(-1, 784), delimiter=',', fmt='%d')",
    ),
    (b"PAR1", "a Parquet file", "reading Parquet is not built yet: save it as CSV"),
    (b"ARROW1", "an Arrow or Feather file", _AS_CSV),
    (b"ORC", "an ORC file", _AS_CSV),
    (b"Obj\x01", "an Avro file", _AS_CSV),
    (b"\x89PNG\r\n\x1a\n", "a PNG image", _IMAGES),
    (b"\xff\xd8\xff", "a JPEG image", _IMAGES),
    (b"GIF8", "a GIF image", _IMAGES),
    (b"II*\x00", "a TIFF image", _IMAGES),
    (b"MM\x00*", "a TIFF image", _IMAGES),
    (
        b"\x00\x00\x08\x03",
        "an IDX file of images (MNIST's own format)",
        "convert it with `digitrec fetch idx FILE --to FOLDER`",
    ),
    (
        b"\x00\x00\x08\x01",
        "an IDX file of labels (MNIST's own format)",
        "convert it with its images: `digitrec fetch idx FILES`",
    ),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x04\x22\x4d\x18", "an LZ4 file", _UNPACK),
    (b"\x1f\x9d", "a file of Unix compress (.Z)", _UNPACK),
    (b"LZIP", "an lzip file", _UNPACK),
    (b"\x5d\x00\x00", "an LZMA file", _UNPACK),
    (b"%!PS", "a PostScript document", _AS_CSV),
    (b"\x7fELF", "a program", "give the CSV file"),
    (b"MZ\x90", "a program", "give the CSV file"),
    (b"-----BEGIN ", "a key or certificate", "give the CSV file"),
    (b"\xff\xfe", "UTF-16 text", "save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "save it as UTF-8"),
)
_PATTERNS: Final[tuple[tuple[re.Pattern[bytes], str, str], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), what, todo)
    for pattern, what, todo in (
        (rb"\s*(<!--.*?-->\s*)?<(!doctype html|html|head|body|script|meta|title|table|div|p|h1|center|form)\b.*",
         "a web page (HTML)", "it may be a page to log in; download the file again"),
        (rb"\s*<[a-z?!][^,>]*>(?![,;\t]).*", "an XML document", _AS_CSV),
        (rb"\s*(%[^\n]*\n\s*)*(@relation\b.*|%[^\n,]*)", "an ARFF file (Weka, OpenML)",
         "`digitrec fetch openml` reads OpenML's; else save it as CSV"),
        (rb'\s*[\[{]\s*(["\[{]|\]|\}|-?\d).*', "JSON", "save it as CSV"),
        (rb"[+-]?\d+(\.\d+)?( \d+:[\d.e+-]+){3}.*", "a LIBSVM (svmlight) file", _AS_CSV),
        (rb"\x80[\x02-\x05](\x95.{8})?[}\]\](cXK\x8c\x94qU].*", "a Python pickle (mnist.pkl)",
         "pickles can run code and are not read: save it as CSV"),
        (rb"RIFF.{4}WEBP.*", "a WebP image", _IMAGES),
        (rb"BM.{4}\x00\x00\x00\x00.*", "a BMP image", _IMAGES),
        (rb".{4}ftyp(heic|heix|hevc|mif1|msf1|avif).*", "an HEIC or AVIF image", "save it as PNG"),
        (rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s+\d+\s.*", "a PBM, PGM or PPM image", _IMAGES),
    )
)  # fmt: skip


def container_of(head: bytes) -> Container | None:
    """The compression or archive that a file's first bytes are of, if it is one that is read."""
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar" or _is_old_tar(head):
        return "tar"
    if _SKIPPABLE.match(head):
        return "zstd"
    return next((kind for magic, kind in _CONTAINERS if head.startswith(magic)), None)


def foreign_format(head: bytes) -> str:
    """What a file is that is no CSV, and what to do about it; nothing if it may be CSV."""
    columns = b"\0" not in head and re.search(rb"[,;\t]", head.partition(b"\n")[0])
    for magic, what, todo in _MAGICS:
        # A header may begin with ORCID or PAR1: these few letters say nothing where columns follow.
        if head.startswith(magic) and not (columns and magic.isalnum() and len(magic) <= 6):
            return f"{what}: {todo}"
    for pattern, what, todo in _PATTERNS:
        if pattern.fullmatch(head[:HEAD_BYTES]):
            return f"{what}: {todo}"
    if b"\0" in head[:HEAD_BYTES]:
        half = head[:HEAD_BYTES:2].count(0), head[1:HEAD_BYTES:2].count(0)
        if max(half) > 0.8 * (min(len(head), HEAD_BYTES) // 2) and min(half) == 0:
            return "UTF-16 text: save it as UTF-8"
        return "binary data: give the CSV file"
    return ""


def _is_old_tar(head: bytes) -> bool:
    """A tar header from before POSIX has no magic; its checksum tells (tar(5))."""
    if len(head) < HEAD_BYTES or not head[0] or not head[148:156].strip(b" \0").isdigit():
        return False
    try:
        promised = int(head[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    return promised == sum(head[:148]) + 8 * 32 + sum(head[156:HEAD_BYTES])
