"""Readers follow the manifest, check digests, and give frames a data scientist can use."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from digitrec.store.commit import make_folder
from hypothesis import given
from hypothesis import strategies as st

import digitrec
from digitrec.catalog import listing as catalog
from digitrec.catalog.manifest import Manifest, describe, publish
from digitrec.catalog.reader import images_of, open_verified
from digitrec.catalog.store import Store
from digitrec.contract import PIXELS, predictions_schema, shard_schema
from digitrec.errors import Corrupt, NoInput, UsageError
from tests.places import full

IMAGES = np.arange(3 * PIXELS, dtype=np.uint8).reshape(3, PIXELS)


def publish_dataset(store: Store, name: str, *, labelled: bool = True) -> Manifest:
    """Three images, in one shard, published as a dataset."""
    columns = {"image_id": [1, 2, 3], "image": [row.tobytes() for row in IMAGES]} | (
        {"label": [7, 8, 9]} if labelled else {}
    )
    return publish_table(
        store,
        Manifest("dataset", name, {"of": name}, (), facts={"labelled": labelled, "keyed": False}),
        f"datasets/{name}",
        "shard",
        pa.table(columns, shard_schema(labelled=labelled, keyed=False)),
    )


def publish_table(store: Store, manifest: Manifest, folder: str, prefix: str, table: pa.Table) -> Manifest:
    path = f"{folder}/{prefix}-00000-test.parquet"
    make_folder(store, folder)
    pq.write_table(table, full(store, path), write_page_checksum=True)
    full = Manifest(
        manifest.kind, manifest.name, manifest.asked, (describe(store, path, rows=len(table)),), (), manifest.facts
    )
    publish(store, folder, full)
    return full


def publish_predictions(store: Store, dataset: str, version: str, digest: str, by: str = "") -> None:
    table = pa.table(
        {"image_id": [1], "label": [7], "confidence": [0.9], "runner_up": [1], "runner_up_confidence": [0.1]},
        predictions_schema(keyed=False),
    )
    asked = {
        "dataset": dataset,
        "dataset_digest": digest,
        "model": version,
        "model_digest": by,
        "variant": "fp32",
    }
    publish_table(
        store,
        Manifest("predictions", dataset, asked, (), facts={"keyed": False, "confidences": {}}),
        f"predictions/{dataset}/{version}.fp32",
        "part",
        table,
    )


def publish_model(store: Store, version: str) -> Manifest:
    manifest = Manifest("model", version, {"seed": 1}, ())
    publish(store, f"models/{version}", manifest)
    return manifest


def test_a_dataset_reads_as_kaggle_lays_it_out(store: Store) -> None:
    """`read_dataset`: ids, labels, then 784 uint8 columns called pixel0…pixel783, with the pixels as they were."""
    publish_dataset(store, "train")
    frame = digitrec.read_dataset(full(store, "datasets/train"))
    assert list(frame.columns[:3]) == ["image_id", "label", "pixel0"]
    assert frame["label"].tolist() == [7, 8, 9]
    assert np.array_equal(frame.loc[:, "pixel0":].to_numpy(), IMAGES)
    assert frame["pixel783"].dtype == np.uint8


def test_predictions_read_as_a_frame(store: Store) -> None:
    """`read_predictions` gives the columns of the contract."""
    publish_predictions(store, "test", "m-1", "")
    frame = digitrec.read_predictions(full(store, "predictions/test/m-1.fp32"))
    assert frame.to_dict("records")[0]["label"] == 7


def test_what_is_not_there_or_is_something_else_is_said(store: Store) -> None:
    """A folder without a manifest, and a dataset where predictions were expected."""
    publish_dataset(store, "train")
    with pytest.raises(NoInput, match="nothing is published"):
        digitrec.read_dataset(full(store, "datasets/none"))
    with pytest.raises(UsageError, match="holds dataset train, expected predictions"):
        digitrec.read_predictions(full(store, "datasets/train"))


def test_a_changed_byte_is_found_before_its_first_use(store: Store) -> None:
    """A shard whose bytes are not the manifest's is not read, even if Parquet could."""
    file = publish_dataset(store, "train").data_files[0]
    data = bytearray(Path(full(store, file.path)).read_bytes())
    data[len(data) // 2] ^= 1
    Path(full(store, file.path)).write_bytes(data)
    with pytest.raises(Corrupt, match="is damaged"):
        open_verified(store, file)


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


def test_training_takes_the_newest_labelled_dataset(store: Store) -> None:
    """An unlabelled one is no choice."""
    publish_dataset(store, "train")
    publish_dataset(store, "new", labelled=False)
    assert catalog.newest_labelled(store).name == "train"


def test_the_catalogue_knows_what_is_left_to_score(store: Store) -> None:
    """Unlabelled datasets without predictions, by any or by one model version; predictions of what a dataset was
    before, or by what a model version was before, do not count."""
    datasets = [publish_dataset(store, name, labelled=name == "train") for name in ("train", "one", "two", "three")]
    publish_predictions(store, "one", "m-1", datasets[1].digest)
    publish_predictions(store, "two", "m-1", "another digest")
    assert [manifest.name for manifest in catalog.unscored(store, datasets)] == ["two", "three"]
    model = publish_model(store, "m-1")
    assert [manifest.name for manifest in catalog.unscored(store, datasets, model)] == ["one", "two", "three"]
    publish_predictions(store, "three", "m-1", datasets[3].digest, model.digest)
    assert [manifest.name for manifest in catalog.unscored(store, datasets, model)] == ["one", "two"]


def test_what_is_asked_for_by_name_and_missing_is_answered_with_what_is_there(store: Store) -> None:
    """An unknown dataset, and a store without labelled data, say what to do."""
    with pytest.raises(NoInput, match=r"no labelled dataset.*digitrec ingest"):
        catalog.newest_labelled(store)
    publish_dataset(store, "train")
    with pytest.raises(NoInput, match=r"no dataset nope in .*; there: train"):
        catalog.dataset(store, "nope")


def test_an_unreadable_manifest_is_listed_and_stops_nobody(store: Store) -> None:
    """A damaged manifest is shown with its problem; the others stay usable."""
    publish_dataset(store, "bad")
    publish_dataset(store, "good")
    Path(full(store, "datasets/bad/manifest.json")).write_text("{}")
    problems = {entry.folder: bool(entry.problem) for entry in catalog.listing(store, "dataset")}
    assert problems == {"datasets/bad": True, "datasets/good": False}
    assert [manifest.name for manifest in catalog.published(store, "dataset")] == ["good"]


def test_an_empty_dataset_reads_as_an_empty_frame(store: Store) -> None:
    """No shard, no row; the columns are there."""
    publish(store, "datasets/none", Manifest("dataset", "none", {}, (), facts={"labelled": True, "keyed": True}))
    frame = digitrec.read_dataset(full(store, "datasets/none"))
    assert (len(frame), list(frame.columns[:4])) == (0, ["image_id", "key", "label", "pixel0"])
