"""What is no CSV is refused whole, by what it looks like, with the remedy."""

import gzip
import io
import json
import pickle
import sqlite3
import struct
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from .conftest import Refuses
from .files import pixel_rows

Z = bytes(60)
LOOKS: dict[str, tuple[bytes, str]] = {
    "HTML": (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "a web page"),
    "html": (b"\xef\xbb\xbf\n\n  <html lang=en>", "a web page"),
    "a comment in HTML": (b"<!-- saved from url -->\r\n<html>", "a web page"),
    "a part of HTML": (b"<div>Access denied</div>", "a web page"),
    "a table of HTML": (b"<table><tr><td>5</td></tr></table>", "a web page"),
    "XML": (b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code></Error>", "an XML document"),
    "bare XML": (b"<Error><Code>NoSuchKey</Code></Error>", "an XML document"),
    "JSON": (json.dumps([{"label": 1}]).encode(), "JSON"),
    "a JSON object": (json.dumps({"message": "Not Found"}, indent=2).encode(), "JSON"),
    "JSON lines": (b'{"label": 1}\n{"label": 2}\n', "JSON"),
    "JSON numbers": (json.dumps(pixel_rows(range(2))).encode(), "JSON"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "`git lfs pull`"),
    "PDF": (b"%PDF-1.7\n", "a PDF document"),
    "Excel 97": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "an Excel workbook"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + Z, "an HDF5 file"),
    "MATLAB": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + Z, "a MATLAB file"),
    "Arrow": (b"ARROW1\0\0" + Z, "Arrow"),
    "ORC": (b"ORC" + Z, "ORC"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + Z, "a PNG image"),
    "JPEG": (b"\xff\xd8\xff\xe0" + Z, "a JPEG image"),
    "GIF": (b"GIF89a" + Z, "a GIF image"),
    "TIFF": (b"II*\0" + Z, "a TIFF image"),
    "BMP": (b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54) + Z, "a BMP image"),
    "WebP": (b"RIFF\x10\0\0\0WEBPVP8 " + Z, "a WebP image"),
    "HEIC": (b"\0\0\0\x18ftypheic" + Z, "HEIC"),
    "IDX images": (b"\0\0\x08\x03" + Z, "`digitrec fetch idx"),
    "IDX labels": (b"\0\0\x08\x01" + Z, "`digitrec fetch idx"),
    "7-Zip": (b"7z\xbc\xaf'\x1c" + Z, "a 7-Zip archive: unpack it"),
    "RAR": (b"Rar!\x1a\x07\0" + Z, "a RAR archive: unpack it"),
    "LZMA": (b"\x5d\x00\x00\x80\x00" + Z, "an LZMA file: unpack it"),
    "ARFF": (b"% 1. Title\n% 2. Source\n@RELATION mnist_784\n\n@ATTRIBUTE pixel1 real\n", "an ARFF file"),
    "ARFF's comments": (b"% " + b"words " * 200 + b"\n@RELATION mnist\n", "an ARFF file"),
    "LIBSVM": (b"5 153:3 154:18 155:18 156:18\n", "a LIBSVM"),
    "a program": (b"\x7fELF" + Z, "a program"),
    "a key": (b"-----BEGIN RSA PRIVATE KEY-----\n", "a key or certificate"),
    "zeros": (bytes(200_000), "binary data"),
    "something": (b"\x08\x07\x12\x07onnx\0" + Z, "binary data"),
    "Latin-1": ("näme,pixel0\n1,2\n".encode("latin-1"), "not UTF-8 text (byte 2)"),
}


@pytest.mark.parametrize(("data", "words"), LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize("options", [{}, {"no_header": True, "max_rejects": 1}], ids=["header", "no header"])
def test_what_is_no_csv_is_named(data: bytes, words: str, options: dict[str, object], refused: Refuses) -> None:
    """Plain, packed, and whatever the options say."""
    assert words in refused(data, **options)
    assert words in refused(gzip.compress(data), "b.csv", **options)


def npz() -> bytes:
    sink = io.BytesIO()
    np.savez(sink, x_test=np.zeros((2, 28, 28), np.uint8))
    return sink.getvalue()


def npy() -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.zeros((2, 28, 28), np.uint8))
    return sink.getvalue()


def parquet() -> bytes:
    sink = io.BytesIO()
    pd.DataFrame({"label": [1]}).to_parquet(sink)
    return sink.getvalue()


def workbook(*names: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name in names:
            archive.writestr(name, b"<x/>")
    return sink.getvalue()


WRITTEN = {
    "npz": (npz(), "a NumPy archive (.npz) of x_test.npy"),
    "npy": (npy(), "numpy.savetxt"),
    "parquet": (parquet(), "a Parquet file"),
    "xlsx": (workbook("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook"),
    "ods": (workbook("mimetype", "content.xml"), "an Excel workbook"),
    "numbers": (workbook("Index/Document.iwa"), "an Excel workbook"),
    "pickle": (pickle.dumps(((np.zeros((2, 784)), np.zeros(2)),) * 3, 2), "a Python pickle"),
    "pickled list": (pickle.dumps([[1, 2]]), "a Python pickle"),
    "pickled frame": (pickle.dumps(pd.DataFrame({"a": [1]})), "a Python pickle"),
}


@pytest.mark.parametrize(("data", "words"), WRITTEN.values(), ids=WRITTEN)
def test_what_other_programs_write_is_named(data: bytes, words: str, refused: Refuses) -> None:
    """The real thing, as far as it can be written here; packed too (mnist.pkl.gz)."""
    assert words in refused(data)
    assert words in refused(gzip.compress(data), "b.csv")


def test_a_database_is_named(tmp_path: Path, refused: Refuses) -> None:
    """SQLite."""
    connection = sqlite3.connect(tmp_path / "digits.db")
    connection.execute("create table digits (label)")
    connection.commit()
    connection.close()
    assert "an SQLite database" in refused((tmp_path / "digits.db").read_bytes())


@pytest.mark.parametrize(
    "line", [b"hello\n", b"Access denied\n", b"404: Not Found", b"import numpy as np\n", b"a: 1\n"]
)
def test_other_text_says_what_was_expected(line: bytes, refused: Refuses) -> None:
    """And shows how it begins."""
    told = refused(line)
    assert "expected 784 pixel columns" in told
    assert len(told) < 600
