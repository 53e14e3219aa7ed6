"""A storage that fails on purpose does so as it was told, and the same way each time."""

import time
from pathlib import Path

import pytest

from digitrec.errors import StorageFailed
from digitrec.storage import Storage, at, register
from digitrec.storage.faulty import FaultyStorage, at_rate, once
from digitrec.storage.local import LocalStorage
from digitrec.storage.memory import MemoryStorage


@pytest.fixture(params=["local", "memory"])
def inner(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return LocalStorage(str(tmp_path / "store")) if request.param == "local" else MemoryStorage()


def upload(storage: Storage, key: str, data: bytes) -> None:
    with storage.scratch() as scratch:
        storage.upload(scratch.write("file", data).path, key)


def test_a_lost_reply_makes_a_creator_doubt(inner: Storage) -> None:
    """The object is there, by the first attempt; the second finds it, and its reply is the one that comes."""
    storage = FaultyStorage(inner, lose_reply_of=lambda verb, key: key.endswith("00003.json"))
    assert storage.put_if_absent("log/00002.json", b"2")
    assert not storage.put_if_absent("log/00003.json", b"3")
    assert inner.read("log/00003.json") == b"3"


def test_a_lost_reply_changes_nothing_else(inner: Storage) -> None:
    """Every other verb may be sent twice."""
    storage = FaultyStorage(inner, lose_reply_of=lambda verb, key: True)
    storage.put("a", b"data")
    upload(storage, "b", b"uploaded")
    storage.copy("b", "c")
    storage.touch("c")
    storage.delete("a")
    assert storage.list("") == ["b", "c"]
    assert storage.read("b") == storage.read("c") == b"uploaded"
    assert storage.stat("b") == inner.stat("b")


def test_a_failure_before_or_after_the_work(inner: Storage) -> None:
    """Both are `StorageFailed`, and may be tried again; only the second has left an object."""
    storage = FaultyStorage(
        inner,
        fail_before=lambda verb, key: key.startswith("before"),
        fail_after=lambda verb, key: key.startswith("after"),
    )
    for key in ("before/put", "after/put", "before/upload", "after/upload"):
        with pytest.raises(StorageFailed, match=f"{storage.url}/{key}: it failed on purpose") as raised:
            storage.put(key, b"data") if "put" in key else upload(storage, key, b"data")
        assert raised.value.transient
        assert inner.exists(key) is key.startswith("after")


def test_once_passes_by(inner: Storage) -> None:
    """A fault for the first of the calls that are meant; a retry is served."""
    storage = FaultyStorage(inner, fail_before=once(lambda verb, key: verb == "read", times=2))
    storage.put("a", b"data")
    for _ in range(2):
        with pytest.raises(StorageFailed):
            storage.read("a")
    assert storage.read("a") == b"data"


def test_a_seed_draws_the_same_faults_each_time(inner: Storage) -> None:
    """By verb, key and how often they came, whatever happens to other keys in between; another seed, other faults."""

    def outcomes(seed: int, *, others: bool) -> str:
        storage = FaultyStorage(inner, fail_before=at_rate(0.3, seed))
        drawn = ""
        for _ in range(200):
            for key in ["other", "key"] if others else ["key"]:
                try:
                    storage.stat(key)
                    drawn += "." if key == "key" else ""
                except StorageFailed:
                    drawn += "x" if key == "key" else ""
        return drawn

    assert outcomes(1, others=False) == outcomes(1, others=True) != outcomes(2, others=False)
    assert 30 < outcomes(1, others=False).count("x") < 90
    assert [at_rate(rate, 1)("read", "a") for rate in (0, 1)] == [False, True]


def test_listings_that_lag(inner: Storage) -> None:
    """For so many listings of a folder, what is new is missing and what is deleted is named; the rest knows at once."""
    inner.put("old/a", b"")
    storage = FaultyStorage(inner, list_lag=2)
    storage.put_if_absent("new/b", b"")
    assert [storage.list("new") for _ in range(3)] == [[], [], ["b"]]
    assert [storage.list("") for _ in range(3)] == [["old/"], ["old/"], ["new/", "old/"]]
    upload(storage, "new/c", b"")
    storage.delete("new/b")
    assert not storage.exists("new/b")
    assert storage.read("new/c") == b""
    assert [storage.list("new") for _ in range(3)] == [["b"], ["b"], ["c"]]
    assert storage.list("old") == ["a"]


def test_calls_are_recorded_in_order(inner: Storage) -> None:
    """Also those that fail; a lost reply is one call of the caller's."""
    storage = FaultyStorage(
        inner, fail_before=lambda verb, key: verb == "list", lose_reply_of=lambda verb, key: verb == "put"
    )
    storage.exists("a")
    storage.put("a", b"")
    storage.copy("a", "b")
    upload(storage, "c", b"")
    with pytest.raises(StorageFailed):
        storage.list("")
    verbs = ["stat", "put", "copy", "scratch", "upload", "list"]
    assert storage.calls == list(zip(verbs, ["a", "a", "b", "", "c", ""], strict=True))


def test_delays(inner: Storage) -> None:
    """A call waits before it is done."""
    storage = FaultyStorage(inner, delay_s=lambda verb, key: 0.05 if key == "slow" else 0)
    before = time.monotonic()
    storage.put("slow", b"")
    assert time.monotonic() - before >= 0.05


def test_it_is_found_by_its_url(inner: Storage) -> None:
    """Two around one storage are two."""
    one, two = register(FaultyStorage(inner)), register(FaultyStorage(inner))
    assert (at(one.url), at(two.url)) == (one, two)
    assert one.url != two.url
