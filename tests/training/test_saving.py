"""Checkpoints in the store: what counts is whole, nothing is overwritten, and training waits for no slow store."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from digitrec import storage
from digitrec.catalog.store import Store
from digitrec.errors import StorageFailed
from digitrec.options import TrainOptions
from digitrec.progress import Step
from digitrec.storage import Storage
from digitrec.storage.faulty import FaultyStorage, Verb, once
from digitrec.storage.memory import MemoryStorage
from digitrec.training import saving
from digitrec.training.saving import KEPT, Checkpoint, Start, find_start, generation_folder
from tests.training.conftest import Digits, publish_rows, train

TRAINING = "_training/quick-0123456789abcdef"
QUICK = TrainOptions(preset="quick")


def checkpoint(epoch: int, best: int | None = None) -> Checkpoint:
    """The state after an epoch, and of the best one so far."""
    return Checkpoint(epoch, f"state {best or epoch}".encode() * 99, f"state {epoch}".encode() * 99)


def store_of(kept: Storage) -> Store:
    return Store.at(storage.register(kept).url)


class Process:
    """A process that holds a generation of the lease; it saves when it is told to, and may pause in between."""

    def __init__(self, store: Store, generation: int) -> None:
        self.start = find_start(store, TRAINING, "train")
        folder = generation_folder(TRAINING, generation, "train")
        self.saver = saving._Saver(store, folder, list(self.start.pointers), lambda: None)

    def save(self, *checkpoints: Checkpoint) -> None:
        for each in checkpoints:
            self.saver._save(each)


def files(store: Store) -> list[str]:
    """The checkpoint files of all processes."""
    generations = [f"{TRAINING}/{name}train" for name in store.storage.list(TRAINING)]
    return [f"{folder}/{name}" for folder in generations for name in store.storage.list(folder) if "checkpoint" in name]


def found(store: Store) -> Start:
    return find_start(store, TRAINING, "train")


def test_what_was_saved_last_is_found() -> None:
    """Byte for byte; before anything is saved, training begins at the beginning."""
    store = store_of(MemoryStorage())
    assert found(store) == Start(None)
    Process(store, 1).save(checkpoint(1), checkpoint(4, best=3))
    assert found(store).checkpoint == checkpoint(4, best=3)
    assert found(store).warnings == ()


def test_a_pointer_is_put_once_and_after_its_files() -> None:
    """From the trace: each file is there before the pointer that names it, everything is written once, under a name of
    its own, and old files go only when a newer pointer stands."""
    traced = FaultyStorage(MemoryStorage())
    Process(store_of(traced), 1).save(*(checkpoint(epoch, best=epoch // 3 * 3 or None) for epoch in range(1, 9)))
    written = [(verb, key) for verb, key in traced.calls if verb in {"upload", "put_if_absent", "put", "delete"}]
    assert len({call for call in written if call[0] != "delete"}) == sum(verb != "delete" for verb, _ in written)
    assert not [key for verb, key in written if verb == "put"]
    there: set[str] = set()
    for verb, key in written:
        if verb == "upload":
            there.add(key)
        elif verb == "delete":
            there.remove(key)
        else:
            pointer = saving._parse_pointer(store_of(traced), key.rpartition("/")[0], 1, traced.inner.read(key))
            assert isinstance(pointer, saving.Pointer)
            assert set(pointer.files) <= there


def test_only_the_newest_two_are_kept() -> None:
    """Of nine checkpoints with another best one each, four files; all pointers stay; the best one is never removed."""
    store = store_of(MemoryStorage())
    Process(store, 1).save(*(checkpoint(epoch, best=epoch - 1) for epoch in range(2, 11)))
    assert len(files(store)) == 3  # the best one of the newest is the newest of the one before
    assert [name for name in store.storage.list(f"{TRAINING}/00000001/train") if name.endswith(".json")] == [
        f"{number:05d}.json" for number in range(1, 10)
    ]
    Process(store, 2).save(*(checkpoint(epoch, best=3) for epoch in range(11, 20)))
    assert len(files(store)) == KEPT + 1
    assert found(store).checkpoint == checkpoint(19, best=3)


def test_a_paused_process_that_comes_back_mixes_nothing() -> None:
    """It goes on below its own generation; the other one's checkpoints stay, whole, and are those that count."""
    store = store_of(MemoryStorage())
    paused = Process(store, 1)
    paused.save(checkpoint(1), checkpoint(2))
    other = Process(store, 7)
    other.save(checkpoint(3), checkpoint(4))
    paused.save(checkpoint(3, best=2), checkpoint(4, best=2), checkpoint(5, best=2))
    assert {key.split("/")[2] for key in files(store)} == {"00000001", "00000007"}
    assert found(store).checkpoint == checkpoint(4)
    other.save(checkpoint(5), checkpoint(6))
    assert found(store).checkpoint == checkpoint(6)
    assert found(store).warnings == ()


def test_a_lost_reply_is_no_refusal() -> None:
    """Each put of a pointer is done twice: there is one of each number all the same."""
    faulty = FaultyStorage(MemoryStorage(), lose_reply_of=lambda verb, key: verb == "put_if_absent")
    store = store_of(faulty)
    Process(store, 1).save(checkpoint(1), checkpoint(2))
    assert [name for name in faulty.inner.list(f"{TRAINING}/00000001/train") if name.endswith(".json")] == [
        "00001.json",
        "00002.json",
    ]
    assert found(store).checkpoint == checkpoint(2)


def test_numbers_that_are_taken_are_passed_over() -> None:
    """Where somebody has removed the lease, a generation may come again: it adds to what is there, damaged or not."""
    store = store_of(MemoryStorage())
    Process(store, 1).save(checkpoint(1))
    store.storage.put(f"{TRAINING}/00000001/train/00002.json", b"{")
    Process(store, 1).save(checkpoint(2))
    assert found(store).checkpoint == checkpoint(2)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format": 3}', b'{"format": 3, "best": 1, "last": 2, "epoch": 3}'])
def test_a_damaged_pointer_is_named_and_the_one_before_is_used(damage: bytes) -> None:
    """It hides none of the others."""
    store = store_of(MemoryStorage())
    Process(store, 1).save(checkpoint(1), checkpoint(2))
    store.storage.put(f"{TRAINING}/00000001/train/00002.json", damage)
    assert found(store).checkpoint == checkpoint(1)
    (warning,) = found(store).warnings
    assert "train/00002.json is not a pointer" in warning
    assert "going on from an older checkpoint, of epoch 1" in warning


def test_of_those_that_are_there_each_damaged_one_is_named() -> None:
    """Once; that the files of older pointers have been removed, also another process's, is no damage."""
    store = store_of(MemoryStorage())
    Process(store, 1).save(checkpoint(1), checkpoint(2), checkpoint(3))
    Process(store, 2).save(*(checkpoint(epoch) for epoch in range(4, 7)))
    there = files(store)
    for key in there:
        store.storage.put(key, b"damaged")
    assert found(store).checkpoint is None
    assert len(there) == len(found(store).warnings) == KEPT
    assert all("damaged: SHA-256" in text and text.endswith("training begins anew") for text in found(store).warnings)


@pytest.mark.parametrize("name", ["00002.json", "checkpoint-"])
def test_a_store_that_cannot_be_read_is_not_taken_for_an_empty_one(name: str) -> None:
    """What may be there is not trained again: the error says so, and a retry may help."""
    inner = MemoryStorage()
    Process(store_of(inner), 1).save(checkpoint(1), checkpoint(2))
    with pytest.raises(StorageFailed) as failed:
        found(store_of(FaultyStorage(inner, fail_before=lambda verb, key: verb == "read" and name in key)))
    assert failed.value.transient


def test_a_listing_that_lags_costs_time_only() -> None:
    """A generation that it does not show yet is begun anew, or gone on with from an older one."""
    faulty = FaultyStorage(MemoryStorage(), list_lag=1)
    store = store_of(faulty)
    Process(store, 1).save(checkpoint(1))
    assert found(store).checkpoint is None
    assert found(store).checkpoint == checkpoint(1)


def sample(store: Store, digits: Digits) -> Store:
    publish_rows(store, "sample", digits[0][:600], digits[1][:600])
    return store


def in_training(verb: Verb, key: str) -> bool:
    return verb in {"upload", "put_if_absent"} and key.startswith("_training/") and "/train/" in key


def test_training_does_not_wait_for_a_slow_store(tmp_path: Path, digits: Digits) -> None:
    """No checkpoint is saved before the last epoch is over; then the newest is, and the version is published."""
    over = threading.Event()
    waited: list[bool] = []

    def wait(verb: Verb, key: str) -> float:
        if in_training(verb, key):
            waited.append(over.wait(60))
        return 0

    def watch(step: Step) -> None:
        if step.done == step.total:
            over.set()

    faulty = FaultyStorage(storage.at(tmp_path / "store"), delay_s=wait)
    store = sample(store_of(faulty), digits)
    assert not train(store, QUICK, watch).already
    assert waited
    assert all(waited)
    pointers = [key for verb, key in faulty.calls if verb == "put_if_absent" and "/train/" in key]
    assert 1 <= len(pointers) < 5


def test_of_several_the_newest_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came meanwhile is passed over; the last one is always saved, also when it ends with an error. What is to be
    saved with them is, each time."""
    also: list[int] = []
    monkeypatch.setattr(saving, "REST", 1e9)
    reached, goes_on = threading.Event(), threading.Event()

    def wait(verb: Verb, key: str) -> float:
        if verb == "upload":
            reached.set()
            goes_on.wait(60)
        return 0

    def be_interrupted() -> None:
        with saving.saving(store, generation_folder(TRAINING, 1, "train"), [], lambda: also.append(1)) as save:
            save(checkpoint(1))
            assert reached.wait(60)
            save(checkpoint(2))
            save(checkpoint(3))
            goes_on.set()
            raise KeyboardInterrupt

    store = store_of(FaultyStorage(MemoryStorage(), delay_s=wait))
    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    assert found(store).checkpoint == checkpoint(3)
    assert [pointer.epoch for pointer in found(store).pointers] == [1, 3]
    assert len(also) == 2


def test_a_checkpoint_that_cannot_be_saved_stops_no_training(
    tmp_path: Path, digits: Digits, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and the version is published all the same."""
    store = sample(store_of(FaultyStorage(storage.at(tmp_path / "store"), fail_before=in_training)), digits)
    report = train(store, QUICK)
    assert (report.already, report.epochs, report.warnings) == (False, 5, ())
    assert "is not saved: cannot upload" in caplog.text


@pytest.mark.parametrize("fault", ["fail_before", "fail_after"])
@pytest.mark.parametrize("verb", ["upload", "put_if_absent", "delete"])
def test_after_a_fault_the_next_one_is_saved(fault: str, verb: Verb) -> None:
    """Whatever call fails, done or not: what counts is whole, and the next checkpoint takes its place."""
    whens: dict[str, Callable[[Verb, str], bool]] = {fault: once(lambda called, key: called == verb)}
    store = store_of(FaultyStorage(MemoryStorage(), **whens))
    process = Process(store, 1)
    failures = 0
    for epoch in range(1, 6):
        try:
            process.save(checkpoint(epoch))
        except StorageFailed:
            failures += 1
            assert found(store).checkpoint in {None, checkpoint(epoch), checkpoint(epoch - 1)}
    assert failures == ((verb, fault) != ("put_if_absent", "fail_after"))  # a pointer that stands there counts
    assert found(store).checkpoint == checkpoint(5)
    assert found(store).warnings == ()
