"""Names become paths in one place, and only safe names pass."""

import pickle
from pathlib import Path

import pytest
from digitrec.store import layout
from hypothesis import given
from hypothesis import strategies as st

from digitrec.catalog.store import Store
from digitrec.errors import Misconfigured, UsageError
from tests.places import full

DIGEST = "3f2a9c01d4e5b6a7" + "0" * 48


@pytest.mark.parametrize("name", ["", "A", "-a", "_a", "a.b", "a/b", "..", "a b", "a" * 65, "é", "a\n"])
def test_unsafe_names_are_refused(name: str) -> None:
    """A name that could leave its folder, or differ between file systems, is a usage error that quotes it."""
    with pytest.raises(UsageError, match="no dataset name"):
        layout.dataset_folder(name)


@given(st.text(max_size=80))
def test_any_file_name_gives_a_dataset_name(stem: str) -> None:
    """A source may be called anything: the name made from it always passes, and ends with its digest."""
    name = layout.name_from(stem, DIGEST)
    assert layout.check_name(name) == name
    assert name.endswith("-3f2a9c01d4e5b6a7")


def test_a_dataset_is_called_after_its_source() -> None:
    """The stem is kept where it can be."""
    assert layout.name_from("Test_Set (2)", DIGEST) == "test_set--2--3f2a9c01d4e5b6a7"


def test_the_longest_name_keeps_all_its_digits() -> None:
    """The stem is cut, never the digest: 47 characters, a hyphen, 16 digits."""
    assert layout.name_from("x" * 80, DIGEST) == "x" * 47 + "-3f2a9c01d4e5b6a7"


def test_predictions_lie_under_dataset_version_and_variant() -> None:
    """One folder for each dataset × model version × variant."""
    assert layout.predictions_folder("test", "quick-1", "fp32-probabilities") == (
        "predictions/test/quick-1.fp32-probabilities"
    )


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


@pytest.mark.parametrize("path", ["/a%20b", "/a#b?c", "/[1]/*", "/{x}"])
def test_a_path_is_taken_as_it_is(path: str) -> None:
    """Only a URL has codes."""
    assert Store.at(path).url == path


@pytest.mark.parametrize("url", ["file://rel/x", "file://"])
def test_a_file_url_without_an_absolute_path(url: str) -> None:
    """`file://rel/x` names a machine, not a folder: it must not become a store somewhere."""
    with pytest.raises(Misconfigured, match="needs an absolute path"):
        Store.at(url)


def test_a_store_pickles_small(store: Store) -> None:
    """A store crosses a process border as its URL, even after it was used."""
    assert not store.exists("anything")
    assert pickle.loads(pickle.dumps(store)) == store


def test_other_protocols_are_refused_with_a_word() -> None:
    """A store that cannot be had yet is a misconfiguration, not a folder called `s3:`."""
    with pytest.raises(Misconfigured, match="s3 stores are not supported yet"):
        Store.at("s3://bucket/prefix")


def test_paths_outside_the_store_are_refused(store: Store, tmp_path: Path) -> None:
    """`relative` is the inverse of `full`, and knows what is not below the store."""
    assert store.relative(full(store, "datasets/a")) == "datasets/a"
    with pytest.raises(UsageError, match="does not lie in the store"):
        store.relative(tmp_path / "elsewhere")
