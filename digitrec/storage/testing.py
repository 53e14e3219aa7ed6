"""What every storage backend promises, as tests: subclass `StorageContract`, and give it a fixture `storage`.

    class TestMine(StorageContract):
        @pytest.fixture
        def storage(self, tmp_path: Path) -> Storage:
            return MyStorage(...)  # empty; registered (`storage.register`) if it lives in this process only

Needs pytest and pyarrow; nothing else in digitrec imports it.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from digitrec.errors import StorageFailed, UsageError
from digitrec.storage import NotFound, Storage, at

NAMES = (
    "plain.json",
    "with space",
    " leading and trailing ",
    "ünïcödé-日本-🖊",
    "e\u0301-in-two-parts",
    "[x]-{y}",
    "*",
    "what?",
    "%",
    "%41-%2F",
    "#fragment",
    "a+b=c&d;e@f:g",
    "~'\"`$^|<>",
    "back\\slash",
    ".hidden",
    ".hidden.json",
    "not-temporary.tmp",
    "..two-dots",
    "trailing.",
    "UPPER",
    "upper",
    "-dash",
    "n" * 255,
    "é" * 127,
)
"""Last parts of keys, each of which must come back from `list` as it is."""

REFUSED = (
    "",
    "/absolute",
    "trailing/",
    "two//slashes",
    ".",
    "..",
    "../above",
    "a/../../b",
    "a/./b",
    "nul\0",
    "\ud800-is-no-text",
    "a/.unfinished.tmp",
    ".unfinished.tmp/a",
    "n" * 256,
    "é" * 128,
    "/".join(["n" * 200] * 6),
)

VERBS_OF_A_KEY: tuple[Callable[[Storage, str, Path], object], ...] = (
    lambda storage, key, file: storage.read(key),
    lambda storage, key, file: storage.open(key),
    lambda storage, key, file: storage.put_if_absent(key, b""),
    lambda storage, key, file: storage.put(key, b""),
    lambda storage, key, file: storage.upload(file, key),
    lambda storage, key, file: storage.copy(key, "other"),
    lambda storage, key, file: storage.copy("there", key),
    lambda storage, key, file: storage.touch(key),
    lambda storage, key, file: storage.stat(key),
    lambda storage, key, file: storage.exists(key),
    lambda storage, key, file: storage.delete(key),
)

SEVERAL_MB = bytes(range(256)) * (5 << 12)


class StorageContract:
    """The tests. A backend that cannot keep one of them is no place for a store."""

    clock_tick_s = 0.02
    """How long to wait for another `modified_s`."""
    more_than_a_page = 1_100
    """Objects that no single reply of a listing holds; a few are enough where listings have no pages."""

    @pytest.fixture
    def storage(self) -> Storage:
        raise NotImplementedError("a subclass gives an empty storage")

    # What is there

    @pytest.mark.parametrize("data", [b"", b"\0", b"text\r\n", SEVERAL_MB], ids=len)
    @pytest.mark.parametrize("write", ["put_if_absent", "put", "upload"])
    def test_what_was_written_is_read(self, storage: Storage, write: str, data: bytes) -> None:
        """Every way to write keeps every byte, of empty objects and of large ones; every way to read gives them."""
        self._write(storage, write, "a/b/object", data)
        assert storage.read("a/b/object") == data
        with storage.open("a/b/object") as file:
            assert file.read() == data
        found = storage.stat("a/b/object")
        assert found is not None
        assert found.size == len(data)
        assert storage.exists("a/b/object")
        path = storage.local_path("a/b/object")
        assert path is None or path.read_bytes() == data

    @pytest.mark.parametrize("name", NAMES)
    def test_any_name_is_kept_as_it_is(self, storage: Storage, name: str) -> None:
        """No name means anything to a shell, a URL or a pattern, in a file's place or in a folder's."""
        for key in (name, f"below/{name}", f"folders/{name}/object"):
            assert storage.put_if_absent(key, key.encode())
            assert not storage.put_if_absent(key, b"")
            assert storage.read(key) == key.encode()
            storage.copy(key, f"copies/{key}")
        assert name in storage.list("")
        assert storage.list("below") == [name]
        assert storage.list("folders") == [f"{name}/"]
        assert storage.list(f"folders/{name}") == ["object"]
        assert storage.read(f"copies/below/{name}") == f"below/{name}".encode()
        storage.delete(f"below/{name}")
        assert storage.list("below") == []
        assert storage.exists(name)

    def test_names_are_told_apart(self, storage: Storage) -> None:
        """Of all those names, each is an object of its own."""
        for name in NAMES:
            assert storage.put_if_absent(f"x/{name}", name.encode())
        assert storage.list("x") == sorted(NAMES)
        assert [storage.read(f"x/{name}") for name in NAMES] == [name.encode() for name in NAMES]

    @pytest.mark.parametrize("key", REFUSED, ids=lambda key: repr(key[:20]))
    def test_what_is_no_key_is_refused(self, storage: Storage, key: str, tmp_path: Path) -> None:
        """A key that would leave the storage, or that some backend cannot keep, is refused by every verb."""
        storage.put("there", b"")
        for verb in VERBS_OF_A_KEY:
            (tmp_path / "file").touch()
            with pytest.raises(UsageError, match="no key of a store"):
                verb(storage, key, tmp_path / "file")
        for verb_of_prefix in (storage.list, lambda prefix: storage.sweep_unfinished(prefix, 0)):
            with pytest.raises(UsageError, match="no key of a store") if key else nullcontext():
                verb_of_prefix(key)
        assert storage.list("") == ["there"]

    # What is not there

    def _assert_absent(self, storage: Storage, key: str) -> None:
        for verb in (storage.read, storage.open, storage.touch, lambda key: storage.copy(key, "target")):
            with pytest.raises(NotFound) as raised:
                verb(key)
            assert raised.value.key == key
        assert storage.stat(key) is None
        assert not storage.exists(key)
        storage.delete(key)
        assert not storage.exists("target")

    def test_an_empty_storage_has_nothing(self, storage: Storage) -> None:
        """Absence is `NotFound`, None, False or an empty listing, and what is absent can be deleted."""
        self._assert_absent(storage, "object")
        self._assert_absent(storage, "some/deeper/object")
        assert storage.list("") == storage.list("some") == storage.list("some/deeper") == []
        assert storage.put_if_absent("object", b"")

    def test_a_folder_is_no_object(self, storage: Storage) -> None:
        """What only has objects below it is absent, and they are left alone."""
        storage.put("a/b/c", b"kept")
        self._assert_absent(storage, "a")
        self._assert_absent(storage, "a/b")
        assert storage.read("a/b/c") == b"kept"

    def test_nothing_is_below_an_object(self, storage: Storage) -> None:
        """A key that goes on after an object's is absent."""
        storage.put("a/b", b"kept")
        self._assert_absent(storage, "a/b/c")
        self._assert_absent(storage, "a/b/c/d")
        assert storage.list("a/b") == storage.list("a/b/c") == []
        assert storage.read("a/b") == b"kept"

    def test_the_beginning_of_a_name_finds_nothing(self, storage: Storage) -> None:
        """Keys are compared part by part."""
        storage.put("a/bc", b"")
        storage.put("a/bd/e", b"")
        self._assert_absent(storage, "a/b")
        assert storage.list("a/b") == []

    # Listing

    def test_listing_shows_one_level(self, storage: Storage) -> None:
        """The names directly below a prefix, sorted, each once; what has more below it ends in `/`."""
        for key in ("z", "a/2", "a/1", "a/10", "a/deep/x", "a/deep/er/y", "a-b/c", "ab/c", "a.json"):
            storage.put(key, b"")
        assert storage.list("") == ["a-b/", "a.json", "a/", "ab/", "z"]
        assert storage.list("a") == ["1", "10", "2", "deep/"]
        assert storage.list("a/deep") == ["er/", "x"]
        assert storage.list("a/deep/er") == ["y"]

    def test_a_listing_of_many(self, storage: Storage) -> None:
        """No name is lost between the pages of a listing."""
        names = [f"{number:05d}.json" for number in range(self.more_than_a_page)]
        with storage.scratch() as scratch:
            scratch.write("x", b"")
            for name in names:
                storage.upload(scratch.folder / "x", f"many/{name}")
                scratch.folder.joinpath("x").touch()
        assert storage.list("many") == names

    def test_a_listing_names_objects_only(self, storage: Storage) -> None:
        """Neither scratch files nor unfinished ones show, also while they are in use."""
        storage.put("a/object", b"")
        with storage.scratch() as scratch, scratch.create("file"):
            assert storage.list("") == ["a/"]
        assert storage.list("") == ["a/"]
        assert storage.list("a") == ["object"]

    # Writing

    def test_put_if_absent_creates_once(self, storage: Storage) -> None:
        """The first call creates the object; any later one says so, and changes nothing."""
        assert storage.put_if_absent("a", b"first")
        before = storage.stat("a")
        assert not storage.put_if_absent("a", b"second")
        assert not storage.put_if_absent("a", b"first")
        assert storage.read("a") == b"first"
        assert storage.stat("a") == before

    def test_put_if_absent_creates_again_what_was_deleted(self, storage: Storage) -> None:
        """Absent is absent, whatever was there before."""
        storage.put_if_absent("a", b"first")
        storage.delete("a")
        assert storage.put_if_absent("a", b"second")
        assert storage.read("a") == b"second"

    def test_one_of_many_writers_creates(self, storage: Storage) -> None:
        """Of sixteen threads that put the same key at once exactly one is told so, and its bytes are there."""
        for turn in range(20):
            created: list[bytes] = []

            def put(me: int, key: str = f"race/{turn}", created: "list[bytes]" = created) -> None:
                if storage.put_if_absent(key, b"%d" % me):
                    created.append(b"%d" % me)

            at_once(put, 16)
            assert created == [storage.read(f"race/{turn}")]

    def test_put_replaces(self, storage: Storage) -> None:
        """The last one stands, whether it is longer, shorter or empty."""
        for data in (b"first", b"longer than first", b"", b"last"):
            storage.put("a", data)
            assert storage.read("a") == data
            found = storage.stat("a")
            assert found is not None
            assert found.size == len(data)

    def test_a_reader_sees_one_version(self, storage: Storage) -> None:
        """While an object is replaced again and again, by every verb that may, each read gives one of the versions."""
        versions = [bytes([number]) * (1 << 16 + number) for number in range(4)]
        for number, version in enumerate(versions):
            storage.put(f"versions/{number}", version)
        storage.put("a", versions[0])
        with repeated(lambda: storage.read("a")) as read:
            for turn in range(15):
                for number, version in enumerate(versions):
                    write = ("put", "upload", "copy")[(turn + number) % 3]
                    self._write(storage, write, "a", version, f"versions/{number}")
        assert set(read) <= set(versions)
        assert len(read) > 1

    def test_threads_write_into_one_new_folder(self, storage: Storage) -> None:
        """Sixteen objects put at once where nothing was are all there."""
        at_once(lambda me: storage.put(f"new/folder/{me:02d}", b"%d" % me), 16)
        assert storage.list("new/folder") == [f"{me:02d}" for me in range(16)]

    def test_upload_is_idempotent(self, storage: Storage) -> None:
        """Two attempts at one object leave it as one would."""
        for _ in range(2):
            self._write(storage, "upload", "p/part-0-abc", SEVERAL_MB)
        assert storage.read("p/part-0-abc") == SEVERAL_MB
        assert storage.list("p") == ["part-0-abc"]

    def test_upload_replaces(self, storage: Storage) -> None:
        """A damaged object gives way to what its name promises."""
        storage.put("p/part-0-abc", b"pXrt")
        self._write(storage, "upload", "p/part-0-abc", b"part")
        assert storage.read("p/part-0-abc") == b"part"

    def test_uploads_at_once(self, storage: Storage) -> None:
        """Of several uploads of one key one stands, whole."""
        at_once(lambda me: self._write(storage, "upload", "a", bytes([me]) * (1 << 18 + me)), 4)
        assert storage.read("a") in [bytes([me]) * (1 << 18 + me) for me in range(4)]

    def test_any_local_file_can_be_uploaded(self, storage: Storage, tmp_path: Path) -> None:
        """It need not lie in scratch."""
        (tmp_path / "file").write_bytes(b"elsewhere")
        storage.upload(tmp_path / "file", "a/b")
        assert storage.read("a/b") == b"elsewhere"

    def test_a_local_file_that_is_not_there(self, storage: Storage, tmp_path: Path) -> None:
        """It is an error, and shows nothing."""
        with pytest.raises(StorageFailed):
            storage.upload(tmp_path / "file", "a/b")
        assert not storage.exists("a/b")

    def test_copy_makes_another_object(self, storage: Storage) -> None:
        """The copy replaces what was there, and is its own: a change of the source does not show in it."""
        storage.put("a/source", b"first")
        storage.put("b/target", b"something longer")
        for target in ("b/target", "new/folder/target"):
            storage.copy("a/source", target)
            assert storage.read(target) == b"first"
        storage.put("a/source", b"second")
        storage.delete("a/source")
        assert storage.read("b/target") == b"first"

    def test_a_copy_onto_itself_changes_nothing(self, storage: Storage) -> None:
        """Neither torn nor lost."""
        storage.put("a", b"data")
        storage.copy("a", "a")
        assert storage.read("a") == b"data"

    def test_a_copy_of_nothing_leaves_the_target(self, storage: Storage) -> None:
        """`NotFound`, and the object that was to be replaced stays."""
        storage.put("target", b"kept")
        with pytest.raises(NotFound):
            storage.copy("source", "target")
        assert storage.read("target") == b"kept"

    def test_delete_removes_one_object(self, storage: Storage) -> None:
        """Once or twice is the same, and its neighbours stay."""
        for key in ("a/b", "a/bc", "a/c/d"):
            storage.put(key, b"")
        storage.delete("a/b")
        storage.delete("a/b")
        self._assert_absent(storage, "a/b")
        assert storage.list("a") == ["bc", "c/"]

    def test_delete_spares_what_has_changed(self, storage: Storage) -> None:
        """With a state, an object that was touched or replaced since then stays; whether one was removed is said."""
        storage.put("a", b"data")
        before = storage.stat("a")
        storage.touch("a")
        touched = storage.stat("a")
        assert before
        assert touched
        assert not storage.delete("a", state=before.state)
        assert storage.read("a") == b"data"
        storage.put("a", b"atad")
        assert not storage.delete("a", state=touched.state)
        found = storage.stat("a")
        assert found
        assert storage.delete("a", state=found.state)
        assert not storage.delete("a")
        self._assert_absent(storage, "a")
        assert storage.list("") == []

    # What is known of an object

    def test_touch_makes_the_time_now(self, storage: Storage) -> None:
        """And changes not a byte."""
        storage.put("a", b"data")
        before = storage.stat("a")
        time.sleep(self.clock_tick_s)
        storage.touch("a")
        after = storage.stat("a")
        assert before is not None
        assert after is not None
        assert after.modified_s > before.modified_s
        assert after.size == before.size
        assert storage.read("a") == b"data"

    def test_the_time_is_that_of_the_last_change(self, storage: Storage) -> None:
        """In seconds since the epoch; this machine's clock and the backend's may differ by a little."""
        for write in ("put", "upload", "copy"):
            storage.put("source", b"")
            self._write(storage, write, "a", b"", "source")
            found = storage.stat("a")
            assert found is not None
            assert found.modified_s == pytest.approx(time.time(), abs=30)

    def test_the_state_changes_with_the_content(self, storage: Storage) -> None:
        """Also if the size stays, by whichever verb, and however quickly one follows the other."""
        states = []
        for number in range(60):
            storage.put("source", b"%06d" % number)
            self._write(storage, ("put", "upload", "copy")[number % 3], "a", b"%06d" % number, "source")
            found = storage.stat("a")
            assert found is not None
            states.append(found.state)
        assert len(set(states)) == len(states)

    def test_the_state_changes_when_an_object_is_made_again(self, storage: Storage) -> None:
        """Deleted and created with other content of the same size."""
        storage.put_if_absent("a", b"first.")
        before = storage.stat("a")
        storage.delete("a")
        storage.put_if_absent("a", b"second")
        after = storage.stat("a")
        assert before is not None
        assert after is not None
        assert before.state != after.state

    def test_the_state_stays_with_the_content(self, storage: Storage) -> None:
        """Reading, listing and what happens to other objects do not change it, nor who asks."""
        storage.put("a/b", b"data")
        before = storage.stat("a/b")
        time.sleep(self.clock_tick_s)
        storage.read("a/b")
        with storage.open("a/b") as file:
            file.read(1)
        storage.list("a")
        storage.put_if_absent("a/b", b"other")
        storage.copy("a/b", "a/c")
        storage.put("a/d", b"data")
        storage.delete("a/d")
        storage.sweep_unfinished("a", 0)
        assert storage.stat("a/b") == before == at(storage.url).stat("a/b")

    # Reading in pieces

    def test_an_open_object_is_read_at_any_place(self, storage: Storage) -> None:
        """It seeks and tells as files do; a read beyond the end gives what there is."""
        data = os.urandom(300_000)
        storage.put("a", data)
        with storage.open("a") as file:
            assert file.readable()
            assert file.seekable()
            assert file.read(10) == data[:10]
            assert file.tell() == 10
            assert file.seek(-5, os.SEEK_END) == len(data) - 5
            assert file.read() == data[-5:]
            assert file.read(1) == b""
            assert file.seek(200_000) == 200_000
            assert file.read(70_000) == data[200_000:270_000]
            file.seek(-70_000, os.SEEK_CUR)
            assert file.read(1) == data[200_000:200_001]
            file.seek(len(data) + 5)
            assert file.read(1) == b""
        assert file.closed

    def test_parquet_is_read_from_an_open_object(self, storage: Storage) -> None:
        """By row groups, without the whole of it."""
        table = pa.table({"number": range(3_000), "text": [str(number) for number in range(3_000)]})
        with storage.scratch() as scratch:
            with scratch.create("file") as sink:
                pq.write_table(table, sink, row_group_size=1_000)
            storage.upload(sink.path, "t/file.parquet")
        with storage.open("t/file.parquet") as source, pq.ParquetFile(source) as file:
            assert file.num_row_groups == 3
            assert file.read_row_group(1, columns=["number"])["number"].to_pylist() == [*range(1_000, 2_000)]
            assert file.read().equals(table)

    # Scratch

    def test_scratch_is_a_fresh_folder(self, storage: Storage) -> None:
        """Two at once do not see each other's files; each is gone afterwards."""
        with storage.scratch() as one, storage.scratch() as two:
            one.write("file", b"1")
            two.write("file", b"2")
            assert (one.folder / "file").read_bytes() == b"1"
            assert [path.name for path in two.folder.iterdir()] == ["file"]
        assert not one.folder.exists()
        assert not two.folder.exists()

    def test_scratch_is_removed_after_an_error(self, storage: Storage) -> None:
        """Also with folders in it; the error passes."""
        folders: list[Path] = []

        def work() -> None:
            with storage.scratch() as scratch:
                folders.append(scratch.folder)
                (scratch.folder / "deeper").mkdir()
                scratch.write("deeper/file", b"data")
                raise KeyError

        with pytest.raises(KeyError):
            work()
        assert not folders[0].exists()

    def test_a_staged_file_knows_its_digest(self, storage: Storage) -> None:
        """SHA-256 and number of the bytes that were written, and that is what is uploaded."""
        with storage.scratch() as scratch:
            staged = scratch.write("file", SEVERAL_MB)
            storage.upload(staged.path, f"a/{staged.sha256}")
        assert staged.bytes == len(SEVERAL_MB)
        assert hashlib.sha256(storage.read(f"a/{staged.sha256}")).hexdigest() == staged.sha256

    def test_sweeping_takes_no_object_and_nothing_young(self, storage: Storage) -> None:
        """Objects stay however old they are; scratch in use stays if it is younger than was said; absence is fine."""
        storage.put("a/b", b"")
        storage.put("c", b"")
        with storage.scratch() as scratch:
            scratch.write("file", b"")
            for prefix in ("", "a", "nowhere"):
                storage.sweep_unfinished(prefix, 3_600)
            assert (scratch.folder / "file").exists()
        for prefix in ("", "a", "nowhere"):
            storage.sweep_unfinished(prefix, 0)
        assert storage.list("") == ["a/", "c"]
        assert storage.list("a") == ["b"]

    # The storage itself

    def test_its_url_finds_it(self, storage: Storage) -> None:
        """Another process, or another instance, sees the same objects at once, and can write them."""
        other = at(storage.url)
        storage.put("a", b"here")
        assert other.read("a") == b"here"
        assert not other.put_if_absent("a", b"there")
        other.put("b", b"there")
        assert storage.read("b") == b"there"
        assert storage.list("") == other.list("") == ["a", "b"]

    def test_it_is_a_key_of_caches(self, storage: Storage) -> None:
        """Hashable, and equal to what its URL finds."""
        assert {storage: "found"}[at(storage.url)] == "found"

    def test_an_address_names_an_object(self, storage: Storage) -> None:
        """For messages: the URL, and the key as it is."""
        assert storage.address("a/b c") == f"{storage.url}/a/b c"
        assert storage.address("") == storage.url

    def test_free_bytes(self, storage: Storage) -> None:
        """A number of bytes, or None where there is no such limit; also before anything was written."""
        free = storage.free_bytes()
        assert free is None or free > 0

    def _write(self, storage: Storage, verb: str, key: str, data: bytes, source: str = "") -> None:
        """Write an object by the verb of that name; `source` is an object with these data, to be copied."""
        if verb == "upload":
            with storage.scratch() as scratch:
                storage.upload(scratch.write("file", data).path, key)
        elif verb == "copy":
            storage.copy(source, key)
        else:
            assert getattr(storage, verb)(key, data) in {None, True}


def at_once(work: Callable[[int], Any], threads: int) -> None:
    """Call `work(0)`, `work(1)` … in threads that start together; raise what one of them raises."""
    barrier, errors = threading.Barrier(threads), []

    def run(me: int) -> None:
        barrier.wait()
        try:
            work(me)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=run, args=(me,)) for me in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    for error in errors:
        raise error


@contextmanager
def repeated(call: Callable[[], bytes]) -> Iterator[list[bytes]]:
    """Call again and again in a thread while the block runs; yield the list of its results, and raise its error."""
    results, errors, over = [call()], [], threading.Event()

    def run() -> None:
        try:
            while not over.wait(0.0005):
                results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield results
    finally:
        over.set()
        thread.join()
    for error in errors:
        raise error
