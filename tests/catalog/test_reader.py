"""Readers follow the manifest, check digests, and give frames a data scientist can use."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import digitrec
from digitrec.catalog.manifest import Manifest
from digitrec.catalog.publish import publish, upload
from digitrec.catalog.reader import images_of, open_verified, read_table, rejects_table
from digitrec.catalog.store import Store
from digitrec.contract import PIXELS, REJECTS_SCHEMA, predictions_schema, shard_schema
from digitrec.errors import Corrupt, NoInput, StorageFailed, UsageError
from tests.catalog.conftest import with_faults
from tests.places import full

IMAGES = np.arange(3 * PIXELS, dtype=np.uint8).reshape(3, PIXELS)
ROWS = {"image_id": [1, 2, 3], "label": [7, 8, 9], "image": [row.tobytes() for row in IMAGES]}


def publish_table(store: Store, manifest: Manifest, **tables: pa.Table) -> Manifest:
    """Publish tables as files of these names (`shard_00000`)."""
    files = []
    with store.storage.scratch() as scratch:
        for name, table in tables.items():
            with scratch.create(name) as staged:
                pq.write_table(table, staged, write_page_checksum=True)
            name = f"{name.replace('_', '-')}.parquet"
            files.append(upload(store, manifest.folder, staged, name, rows=len(table)))
    return publish(store, replace(manifest, files=tuple(files))).manifest


def publish_dataset(store: Store, name: str = "train") -> Manifest:
    """Three images, in one shard."""
    table = pa.table(ROWS, shard_schema(labelled=True, keyed=False))
    manifest = Manifest("dataset", name, {"of": name}, (), facts={"labelled": True, "keyed": False})
    return publish_table(store, manifest, shard_00000=table)


def test_a_dataset_reads_as_kaggle_lays_it_out(anywhere: Store) -> None:
    """`read_dataset`: ids, labels, then 784 uint8 columns called pixel0…pixel783, with the pixels as they were."""
    manifest = publish_dataset(anywhere)
    if "://" not in anywhere.url:
        frame = digitrec.read_dataset(full(anywhere, "datasets/train"))
        assert list(frame.columns[:3]) == ["image_id", "label", "pixel0"]
        assert frame["label"].tolist() == [7, 8, 9]
        assert np.array_equal(frame.loc[:, "pixel0":].to_numpy(), IMAGES)
        assert frame["pixel783"].dtype == np.uint8
    assert read_table(anywhere, manifest, manifest.folder).to_pydict() == ROWS


def test_a_folder_that_was_copied_alone_is_read(store: Store, tmp_path: Path) -> None:
    """Paths in a manifest are relative to it: no store is needed around it, and its name may be another."""
    publish_dataset(store)
    copy = shutil.copytree(full(store, "datasets/train"), tmp_path / "elsewhere")
    shutil.rmtree(store.url)
    assert digitrec.read_dataset(copy)["label"].tolist() == [7, 8, 9]


def test_predictions_read_as_a_frame(store: Store) -> None:
    """`read_predictions` gives the columns of the contract."""
    columns = {"image_id": [1], "label": [7], "confidence": [0.9], "runner_up": [1], "runner_up_confidence": [0.1]}
    asked = {"dataset": "test", "dataset_digest": "", "model": "m-1", "variant": "fp32"}
    manifest = Manifest("predictions", "test/m-1.fp32", asked, (), facts={"keyed": False, "confidences": {}})
    publish_table(store, manifest, part_00000=pa.table(columns, predictions_schema(keyed=False)))
    frame = digitrec.read_predictions(full(store, "predictions/test/m-1.fp32"))
    assert frame.to_dict("records")[0]["label"] == 7
    assert list(frame.columns) == list(columns)


def test_rejected_rows_read_as_a_frame(store: Store) -> None:
    """`read_rejects`: a row each; none where all were good."""
    assert len(digitrec.read_rejects(full(store, publish_dataset(store).folder))) == 0
    reject = dict.fromkeys(REJECTS_SCHEMA.names) | {
        "image_id": 2, "source": "a.csv", "line": 3, "byte_offset": 9, "reason": "not_a_number", "text": "x",
    }  # fmt: skip
    manifest = Manifest("dataset", "bad", {"of": "bad"}, (), facts={"labelled": True, "keyed": False})
    manifest = publish_table(store, manifest, rejects=pa.Table.from_pylist([reject], REJECTS_SCHEMA))
    assert digitrec.read_rejects(full(store, "datasets/bad"))["reason"].tolist() == ["not_a_number"]
    assert rejects_table(store, manifest, manifest.folder).to_pylist() == [reject]


def test_what_is_not_there_or_is_something_else_is_said(store: Store) -> None:
    """A folder without a manifest, and a dataset where predictions were expected."""
    publish_dataset(store)
    with pytest.raises(NoInput, match=r"nothing is published at .*/datasets/none: expected a folder"):
        digitrec.read_dataset(full(store, "datasets/none"))
    with pytest.raises(UsageError, match="holds dataset train, expected predictions"):
        digitrec.read_predictions(full(store, "datasets/train"))


def test_a_changed_byte_is_found_before_its_first_use(anywhere: Store) -> None:
    """A shard whose bytes are not the manifest's is not read, even if Parquet could."""
    manifest = publish_dataset(anywhere)
    (file,) = manifest.files
    good = anywhere.storage.read(manifest.key(file))
    for place in range(0, len(good), len(good) // 20):
        bad = bytearray(good)
        bad[place] ^= 1
        anywhere.storage.put(manifest.key(file), bad)
        with pytest.raises(Corrupt, match="is damaged"):
            open_verified(anywhere, manifest.key(file), file)


def test_a_shard_is_hashed_once_as_long_as_it_stays(anywhere: Store) -> None:
    """In a process; one that has changed since is hashed again."""
    manifest = publish_dataset(anywhere)
    (file,) = manifest.files
    key = manifest.key(file)
    store, faulty = with_faults(anywhere)

    def read_it() -> int:
        faulty.calls.clear()
        with open_verified(store, key, file) as parquet:
            assert parquet.read().num_rows == 3
        return len([verb for verb, _ in faulty.calls if verb == "open"])

    first, again = read_it(), read_it()
    assert first - again == 1
    data = anywhere.storage.read(key)
    anywhere.storage.put(key, data[::-1])
    with pytest.raises(Corrupt):
        open_verified(store, key, file)
    anywhere.storage.put(key, data)
    assert read_it() == first


def test_a_missing_or_unreadable_shard_is_named(anywhere: Store) -> None:
    """Damage if it is gone, storage if it cannot be read."""
    manifest = publish_dataset(anywhere)
    (file,) = manifest.files
    key = manifest.key(file)
    store, _ = with_faults(anywhere, fail_before=lambda verb, _: verb == "open")
    with pytest.raises(StorageFailed, match="on purpose"):
        open_verified(store, key, file)
    anywhere.storage.delete(key)
    with pytest.raises(Corrupt, match=f"{key} is missing"):
        open_verified(anywhere, key, file)


def test_an_empty_dataset_reads_as_an_empty_frame(store: Store) -> None:
    """No shard, no row; the columns are there."""
    publish(store, Manifest("dataset", "none", {}, (), facts={"labelled": True, "keyed": True}))
    frame = digitrec.read_dataset(full(store, "datasets/none"))
    assert (len(frame), list(frame.columns[:4])) == (0, ["image_id", "key", "label", "pixel0"])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(0, 3))
def test_images_come_back_whatever_the_chunks(chunks: list[int], start: int) -> None:
    """`images_of` undoes fixed_size_binary for any chunking and any slice; one chunk is a view, not a copy."""
    images = np.random.default_rng(0).integers(0, 256, (sum(chunks), PIXELS), dtype=np.uint8)
    ends = np.cumsum(chunks)
    arrays = [
        pa.array([row.tobytes() for row in images[end - n : end]], pa.binary(PIXELS))
        for n, end in zip(chunks, ends, strict=True)
    ]
    column = pa.chunked_array(arrays, pa.binary(PIXELS)).slice(start)
    assert np.array_equal(images_of(column), images[start:])


def test_one_chunk_is_not_copied() -> None:
    """The array lies on Arrow's own memory."""
    array = pa.array([row.tobytes() for row in IMAGES], pa.binary(PIXELS))
    assert images_of(array).ctypes.data == array.buffers()[1].address
