"""Bad input, "Containers": compression and archives are known by their content, and read to their last byte."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence

import pytest
import zstandard

from digitrec.catalog.store import Store
from digitrec.ingest import containers

from .conftest import Reads, Refuses
from .files import UNLABELLED, pixel_rows, table
from .outcomes import LABELLED_CSV, PLAIN_CSV, ROWS

Pack = Callable[[bytes], bytes]
PACKS: dict[str, Pack] = {
    "gz": lambda data: gzip.compress(data, 1),
    "bz2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "zst": zstandard.ZstdCompressor(level=1, write_checksum=True).compress,
}
THIRD = len(PLAIN_CSV) // 3
FIRST, SECOND = (table(UNLABELLED, pixel_rows(rows)) for rows in (range(20), range(20, ROWS)))


def zipped(files: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return sink.getvalue()


def tarred(files: Sequence[tuple[str, bytes]], mode: str = "w:", form: int = tarfile.PAX_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, data in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return sink.getvalue()


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
@pytest.mark.parametrize("ending", ["csv", "csv.gz", "csv.zst", "dat"])
def test_content_decides_not_the_name(pack: Pack, ending: str, reads: Reads) -> None:
    """Each compression under each name, in several streams too, empty ones among them."""
    assert reads(pack(PLAIN_CSV), f"one.{ending}") == ""
    assert reads(pack(b"") + pack(PLAIN_CSV[:THIRD]) + pack(PLAIN_CSV[THIRD:]) + pack(b""), f"two.{ending}") == ""


@pytest.mark.parametrize("name", ["a.csv.gz", "a.zip", "a.xlsx", "a"])
def test_plain_text_under_another_name_is_read(name: str, reads: Reads) -> None:
    """A browser unpacked it on the way, and kept its name."""
    assert reads(PLAIN_CSV, name) == ""


def test_packed_twice_is_read_and_more_is_a_trap(reads: Reads, refused: Refuses) -> None:
    """gzip around gzip, or around another one; not for ever."""
    data = PLAIN_CSV
    for number, pack in enumerate(PACKS.values()):
        data = pack(data)
        if number < 3:
            reads(data, f"{number}.csv")
    assert "compressed again inside" in refused(data)


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
@pytest.mark.parametrize("cut", [3, 30, -1, -9, 0.5])
def test_compression_that_is_cut_short_is_refused_whole(pack: Pack, cut: float, refused: Refuses) -> None:
    """Its end, its half, nearly all of it; also the second of two streams, whatever the budget (F34)."""
    data = pack(PLAIN_CSV)
    at = int(cut * len(data)) if cut == 0.5 else int(cut)
    if at != 3:
        assert "damaged or cut short" in refused(data[:at], max_rejects=1)
    assert refused(data[:at], "b.csv", max_rejects=1)
    assert "damaged or cut short" in refused(pack(PLAIN_CSV[:THIRD]) + pack(PLAIN_CSV[THIRD:])[:-9], max_rejects=1)


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
@pytest.mark.parametrize("behind", [b"garbage", b"\n", PLAIN_CSV, b"\x1f\x8b"])
def test_garbage_behind_the_end_is_refused_whole(pack: Pack, behind: bytes, refused: Refuses) -> None:
    """Or another file that was appended."""
    assert "damaged or cut short" in refused(pack(PLAIN_CSV) + behind, max_rejects=1)


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
@pytest.mark.parametrize("place", [0.3, 0.5, 0.9, 1])
def test_a_flipped_byte_is_refused_whole(pack: Pack, place: float, refused: Refuses) -> None:
    """In the middle, or in the checksum at the end."""
    data = bytearray(pack(PLAIN_CSV))
    data[min(int(place * len(data)), len(data) - (6 if data[:2] == b"\x1f\x8b" else 2))] ^= 0x55
    assert "damaged or cut short" in refused(bytes(data), max_rejects=1)


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_a_decompression_bomb_is_stopped(pack: Pack, refused: Refuses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the bytes are implausible for what lies there; here beyond 4 MiB instead of 1 GiB."""
    monkeypatch.setattr(containers, "BOMB_BYTES", 4 << 20)
    monkeypatch.setattr(containers, "BOMB_RATIO", 50)
    data = PLAIN_CSV.partition(b"\n")[0] + b"\n" + (b",".join([b"0"] * 784) + b"\n") * 20_000
    assert "implausible" in refused(pack(data))
    assert "implausible" in refused(zipped([("a.csv", data)]), "b.zip")


def test_archives_of_one_csv_are_read(reads: Reads) -> None:
    """zip, stored or deflated, tar of any kind, packed or not, folders in it, a packed member."""
    some = [zipped([("test.csv", PLAIN_CSV)], method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]
    some += [tarred([("d/test.csv", PLAIN_CSV)], mode) for mode in ("w:", "w:gz", "w:bz2", "w:xz")]
    some += [tarred([("test.csv", PLAIN_CSV)], form=form) for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT)]
    some += [pack(tarred([("test.csv", PLAIN_CSV)])) for pack in PACKS.values()]
    some += [zipped([("a/b/test.csv.gz", gzip.compress(PLAIN_CSV))]), tarred([("x", bz2.compress(PLAIN_CSV))], "w:gz")]
    for number, data in enumerate(some):
        assert reads(data, f"{number}.dat") == ""


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_would_be_unpacked_whole_into_memory_is_refused(method: int, refused: Refuses) -> None:
    """zipfile has no limit for these methods; hardly anybody uses them."""
    assert "pack it again as an ordinary zip" in refused(zipped([("test.csv", PLAIN_CSV)], method))


def test_a_sparse_member_is_refused(refused: Refuses) -> None:
    """A small archive could hold a hole of any size."""
    entry = tarfile.TarInfo("test.csv")
    entry.size = len(PLAIN_CSV)
    entry.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": f"0,{len(PLAIN_CSV)}",
                         "GNU.sparse.size": str(len(PLAIN_CSV) * 1000)}  # fmt: skip
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(entry, io.BytesIO(PLAIN_CSV))
    assert "--sparse" in refused(sink.getvalue())


def test_a_member_whose_name_no_manifest_can_hold_is_refused(refused: Refuses) -> None:
    """Latin-1 in an old tar."""
    data = tarred([("gr@sse.csv", PLAIN_CSV)], form=tarfile.USTAR_FORMAT)
    head = bytearray(data[:512].replace(b"gr@sse", b"gr\xf6sse"))
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + 8 * 32 + sum(head[156:]))
    assert "not UTF-8" in refused(bytes(head) + data[512:])


@pytest.mark.parametrize("names", [("part1.txt", "part2.txt"), ("part-0", "part-1"), ("a.dat", "b.dat")])
def test_a_part_that_cannot_be_read_refuses_the_archive(names: tuple[str, str], refused: Refuses) -> None:
    """Whatever the parts are called: half of the rows would be gone with a note."""
    told = refused(zipped([(names[0], FIRST), (names[1], SECOND.replace(b"pixel7,", b"pixl7,", 1))]))
    assert f"{names[1]!r}, which cannot be read" in told
    assert "pixel7" in told


def test_debris_is_left_out_and_a_read_me_is_said(reads: Reads) -> None:
    """What macOS and Windows put into archives, hidden files."""
    debris = [("__MACOSX/._test.csv", b"\0\5\x16\7"), (".DS_Store", b"x"), ("a/Thumbs.db", b"x"), (".git/a.csv", b"1")]
    assert reads(zipped([*debris, ("test.csv", PLAIN_CSV)])) == "source.csv: left out of source.csv: 4 hidden files"
    said = reads(tarred([("README.md", b"# hello\n"), ("test.csv", PLAIN_CSV)]), "b.tar")
    assert said == "b.tar: left out of b.tar: 'README.md'"


def test_members_of_one_layout_are_read_in_natural_order(reads: Reads) -> None:
    """part2 before part10, however they were packed; --in-order takes the archive's."""
    reads(zipped([("part10.csv", SECOND), ("part2.csv", FIRST)]))
    reads(tarred([("part10.csv", SECOND), ("Part2.csv", FIRST)], "w:gz"), "b.tgz")
    reads(zipped([("part10.csv", FIRST), ("part2.csv", SECOND)]), "c.zip", in_order=True)


KAGGLE_ZIP = zipped(
    [("sample_submission.csv", b"ImageId,Label\n1,0\n"), ("test.csv", PLAIN_CSV), ("train.csv", LABELLED_CSV)]
)


def test_members_of_several_layouts_are_refused_naming_member(refused: Refuses, reads: Reads) -> None:
    """As Kaggle packs its files; the remedy works, by whole name or its last part."""
    told = refused(KAGGLE_ZIP)
    for word in ("several layouts", "'test.csv' with neither", "'train.csv' with labels", "--member test.csv"):
        assert word in told
    reads(KAGGLE_ZIP, "a.zip", member=("test.csv",))
    reads(KAGGLE_ZIP, "b.zip", member=("train.csv",), expect={"labels": True})
    assert "--member a.csv" in refused(zipped([("a.csv", PLAIN_CSV), ("b.csv", b"x,y\n1,2\n")]), "c.zip")
    reads(zipped([("a/t.csv", PLAIN_CSV), ("b/t.csv", LABELLED_CSV)]), "d.zip", member=("a/t.csv",))
    reads(zipped([("a.csv", FIRST), ("b.csv", SECOND), ("c.csv", b"1")]), "e.zip", member=("b.csv", "a.csv"))


def test_a_member_that_is_not_there_or_twice_is_refused(refused: Refuses) -> None:
    """With those that are."""
    assert "no members called 'tset.csv': 'sample_submission.csv' 'test.csv'" in refused(
        KAGGLE_ZIP, member=("tset.csv",)
    )
    twice = zipped([("a/t.csv", FIRST), ("b/t.csv", SECOND)])
    assert "2 members called 't.csv': 'a/t.csv' 'b/t.csv'" in refused(twice, member=("t.csv",))


def test_a_damaged_member_refuses_the_archive_whatever_its_name(refused: Refuses) -> None:
    """It is not left out as if it were a read-me."""
    for name in ("a.csv", "a", "a.log"):
        for method, place in ((zipfile.ZIP_DEFLATED, 200), (zipfile.ZIP_STORED, 5000)):
            data = bytearray(zipped([(name, PLAIN_CSV), ("b.csv", PLAIN_CSV)], method))
            data[place] ^= 0x01
            assert "damaged or cut short" in refused(bytes(data), max_rejects=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-10], "damaged or cut short"),
        (lambda data: data[: len(data) // 2], "damaged or cut short"),
        (lambda data: data + b"garbage", "7 bytes follow its end"),
        (lambda data: zipped([("a.csv", LABELLED_CSV)]) + data, "another archive before this one"),
        (lambda data: b"garbage" + data, "give the CSV file"),
    ],
    ids=["end", "half", "garbage", "two", "before"],
)
def test_a_damaged_zip_is_refused_whole(change: Callable[[bytes], bytes], words: str, refused: Refuses) -> None:
    """Cut short, or joined: zipfile would take the last archive and pass over the first."""
    assert words in refused(change(zipped([("test.csv", PLAIN_CSV)])), max_rejects=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[: len(data) // 2], "damaged or cut short"),
        (lambda data: data[: 512 + len(PLAIN_CSV) + -len(PLAIN_CSV) % 512], "the archive has no end"),
        (lambda data: data + b"garbage" * 100, "goes on behind the end"),
        (lambda data: data + data, "goes on behind the end"),
        (lambda data: gzip.compress(data)[:-10], "damaged or cut short"),
    ],
    ids=["half", "no end", "garbage", "two", "gzip"],
)
def test_a_damaged_tar_is_refused_whole(change: Callable[[bytes], bytes], words: str, refused: Refuses) -> None:
    """tarfile takes any end for one."""
    assert words in refused(change(tarred([("test.csv", PLAIN_CSV)])), max_rejects=1)


def test_archives_without_digits_say_what_they_hold(refused: Refuses) -> None:
    """Nothing, a read-me, images, another archive, the same name twice, links, a password."""
    assert "it holds nothing" in refused(zipped([]))
    assert "it holds 'README.md'" in refused(zipped([("README.md", b"# hello\n")]))
    assert "a PNG image" in refused(zipped([("1.png", b"\x89PNG\r\n\x1a\n" + bytes(50))]))
    assert "holds another archive, 'in.zip'" in refused(zipped([("in.zip", zipped([("a.csv", PLAIN_CSV)]))]))
    with pytest.warns(UserWarning, match="Duplicate"):
        assert "holds 'a.csv' twice" in refused(zipped([("a.csv", FIRST), ("a.csv", FIRST)]))
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        entry = tarfile.TarInfo("a.csv")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    assert "holds links or devices (a.csv)" in refused(sink.getvalue())
    locked = bytearray(zipped([("a.csv", PLAIN_CSV)]))
    locked[6] |= 1
    locked[locked.index(b"PK\1\2") + 8] |= 1
    assert "an encrypted archive: unpack it with its password" in refused(bytes(locked))


def test_names_in_archives_name_nothing_outside(reads: Reads, store: Store) -> None:
    """`../` and control characters: nothing is unpacked to a name, and what is shown is harmless (F28)."""
    reads(zipped([("../../../evil.csv", PLAIN_CSV)]))
    said = reads(tarred([("a.csv", PLAIN_CSV), ("\x1b[31m`x`.md", b"hello\n")]), "b.tar")
    assert "\\x1b[31m" in said
    assert "\x1b" not in said


def test_zstd_may_begin_with_a_frame_that_is_skipped(reads: Reads) -> None:
    """As pzstd writes it."""
    reads(struct.pack("<II", 0x184D2A50, 4) + b"abcd" + PACKS["zst"](PLAIN_CSV))
