"""Names become keys in one place, and only safe names pass."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digitrec.catalog import layout
from digitrec.catalog.store import Store
from digitrec.errors import Misconfigured, UsageError
from digitrec.storage.base import check_key
from tests.catalog.conftest import in_memory

DIGEST = "3f2a9c01d4e5b6a7" + "0" * 48


@pytest.mark.parametrize("name", ["", "A", "-a", "_a", "a.b", "a/b", "..", "a b", "a" * 65, "é", "a\n"])
def test_unsafe_names_are_refused(name: str) -> None:
    """A name that could leave its folder, or differ between file systems, is a usage error that quotes it."""
    for make, what in (
        (layout.dataset_folder, "dataset"),
        (layout.model_folder, "model version"),
        (layout.pending_key, "dataset"),
        (layout.training_folder, "model version"),
        (lambda name: layout.predictions_folder("x", "y", name), "variant"),
        (lambda name: layout.predictions_folder(name, "y", "z"), "dataset"),
        (lambda name: layout.predictions_folder("x", name, "z"), "model version"),
    ):
        with pytest.raises(UsageError, match=f"no {what} name"):
            make(name)


@given(st.text(max_size=80))
def test_any_file_name_gives_a_dataset_name(stem: str) -> None:
    """A source may be called anything: the name made from it always passes, and ends with its digest."""
    name = layout.name_from(stem, DIGEST)
    assert layout.check_name(name) == name
    assert name.endswith("-3f2a9c01d4e5b6a7")
    assert check_key(layout.manifest_path(layout.dataset_folder(name)))


def test_a_readable_stem_stays_readable() -> None:
    """What a name cannot hold is replaced, character by character."""
    assert layout.name_from("Test_Set (2)", DIGEST) == "test_set--2--3f2a9c01d4e5b6a7"


def test_the_longest_name_keeps_all_its_digits() -> None:
    """The stem is cut, never the digest: 47 characters, a hyphen, 16 digits."""
    assert layout.name_from("x" * 80, DIGEST) == "x" * 47 + "-3f2a9c01d4e5b6a7"


def test_predictions_lie_under_dataset_version_and_variant() -> None:
    """One folder for each dataset × model version × variant."""
    assert layout.predictions_folder("test", "quick-1", "fp32-probabilities") == (
        "predictions/test/quick-1.fp32-probabilities"
    )


@pytest.mark.parametrize(
    ("name", "stem", "suffix"),
    [
        ("shard-00000.parquet", "shard-00000", ".parquet"),
        ("weights.safetensors", "weights", ".safetensors"),
        ("card", "card", ""),
        ("a-0123456789abcdef-b.json", "a-0123456789abcdef-b", ".json"),
    ],
)
def test_a_data_file_is_known_by_its_name_without_digest(name: str, stem: str, suffix: str) -> None:
    """Sixteen digits before the suffix, in whatever folder, and nothing else that looks like them."""
    path = layout.digest_name(stem, DIGEST, suffix)
    assert path == f"{stem}-3f2a9c01d4e5b6a7{suffix}"
    assert layout.plain_name(path) == layout.plain_name(f"plots/{path}") == name


def test_a_relative_store_is_taken_from_the_working_directory(tmp_path: Path) -> None:
    """`Store` is absolute once made, so that a worker started elsewhere means the same folder."""
    assert Store.at("somewhere") == Store(str(tmp_path / "somewhere"))
    assert Store.at(f"file://{tmp_path}/x") == Store(str(tmp_path / "x"))


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///data/store", "/data/store"),
        ("file://localhost/data", "/data"),
        ("FILE:///data", "/data"),
        ("file:///a%20b%2523/%C3%BC", "/a b%23/ü"),
        ("file:///50%25#1?", "/50%#1?"),
    ],
)
def test_a_file_url_means_its_path(url: str, path: str) -> None:
    """Percent codes are decoded (RFC 8089); nothing is taken for a query or a fragment."""
    assert Store.at(url).url == path


@pytest.mark.parametrize(
    "url", ["s3://bucket/prefix", "memory://of-another-process", "file://rel/x", "file:", "file://"]
)
def test_a_url_that_nothing_serves_is_refused(url: str, tmp_path: Path) -> None:
    """Another scheme, or a file URL without an absolute path; `file:` alone is a folder's name."""
    if url == "file:":
        assert Store.at(url).url == str(tmp_path / url)
        return
    with pytest.raises(Misconfigured, match=f"--store {url}"):
        Store.at(url)


def test_a_store_travels(store: Store) -> None:
    """Pickled, hashed and compared by its URL, also one that lives in this process."""
    for one in (store, in_memory()):
        assert pickle.loads(pickle.dumps(one)) == one
        assert {one: 1}[Store(one.url)] == 1


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("store", ""),
        ("store/", ""),
        ("./store/datasets/x", "datasets/x"),
        ("store/datasets/x/", "datasets/x"),
        ("store/datasets/../models/m", "models/m"),
        ("link/models/m", "models/m"),
        ("store-2/datasets/x", None),
        ("datasets/x", None),
        ("", None),
        ("store/..", None),
    ],
)
def test_a_path_below_a_store_has_a_key(address: str, key: str | None, store: Store, tmp_path: Path) -> None:
    """Absolute or not, through links and dots; a path elsewhere has none."""
    Path(store.url).mkdir()
    (tmp_path / "link").symlink_to(store.url)
    assert store.storage.key_of(address) == key
    if address:
        assert store.storage.key_of(f"{tmp_path}/{address}") == key
    assert store.storage.key_of(store.address("a/b")) == "a/b"


def test_an_address_elsewhere_has_a_key(tmp_path: Path) -> None:
    """The same for storage that is no folder."""
    memory = in_memory()
    assert memory.storage.key_of(memory.url) == memory.storage.key_of(f"{memory.url}/") == ""
    assert memory.storage.key_of(memory.address("a/b") + "/") == "a/b"
    assert memory.storage.key_of(f"{memory.url}-2/a") is None
    assert memory.storage.key_of(str(tmp_path)) is None
