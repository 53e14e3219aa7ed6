"""Links in landing/ are named and not followed: whoever drops files reads nothing with the service's rights."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from digitrec.catalog.store import Store
from digitrec.errors import NoInput
from digitrec.ingest import landing
from digitrec.ingest.landing import ingest_landing
from digitrec.ingest.landing_scan import Listing, list_landing
from digitrec.ingest.origins import landed_object
from digitrec.ingest.run import ingest, ingest_origins
from digitrec.storage.files import open_unlinked
from tests.places import full

from .files import csv_of
from .landed import LONG_AGO, land, place, records, refused, waiting
from .outcomes import PLAIN

FOLLOWED_NOT = "a link is not followed: copy the file"
SECRET = b'{"username": "ada", "key": "5ec12e7"}\n'


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of somebody else's: a secret, and digits."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name, data in (("secret.csv", SECRET), ("digits.csv", csv_of(first=40))):
        (folder / name).write_bytes(data)
        os.utime(folder / name, (LONG_AGO, LONG_AGO))
    return folder


def symbolic(store: Store, outside: Path) -> str:
    place(store, "x.csv").symlink_to(outside / "secret.csv")
    return "x.csv"


def chained(store: Store, outside: Path) -> str:
    place(store, "day/x.csv").symlink_to(outside / "digits.csv")
    return "day/x.csv"


def within(store: Store, outside: Path) -> str:
    place(store, "x.csv").symlink_to("a.csv")
    return "x.csv"


def hard(store: Store, outside: Path) -> str:
    place(store, "x.csv").hardlink_to(outside / "digits.csv")
    return "x.csv"


def folder(store: Store, outside: Path) -> str:
    place(store, "x").symlink_to(outside)
    return "x"


def loop(store: Store, outside: Path) -> str:
    place(store, "x").symlink_to("x")
    return "x"


@pytest.mark.parametrize("link", [symbolic, chained, within, hard, folder, loop])
def test_a_link_is_named_and_not_followed(link: Callable[[Store, Path], str], store: Store, outside: Path) -> None:
    """Each night, whatever it points to; nothing is remembered, nothing of its content told, the others are taken."""
    land(store, "a.csv", csv_of())
    name = link(store, outside)
    for _ in range(2):
        report = ingest_landing(store)
        assert refused(report) == {name: FOLLOWED_NOT}
        assert "5ec12e7" not in "\n".join(report.lines())
    assert (report.known, len(records(store))) == (1, 1)


def test_a_copy_instead_of_the_link_is_taken(store: Store, outside: Path) -> None:
    """The remedy that is named helps."""
    path = place(store, hard(store, outside))
    assert list(refused(ingest_landing(store))) == ["x.csv"]
    path.unlink()
    land(store, "x.csv", csv_of(first=40))
    assert len(ingest_landing(store).ingested) == 1


def test_landing_itself_may_be_a_link(store: Store, tmp_path: Path) -> None:
    """It is the operator's, who may have put it on another disk."""
    Path(store.url).mkdir()
    (tmp_path / "disk").mkdir()
    Path(full(store, "landing")).symlink_to(tmp_path / "disk")
    land(store, "day/a.csv", csv_of())
    assert len(ingest_landing(store).ingested) == 1


@pytest.mark.parametrize("swapped", ["file", "folder"])
@pytest.mark.parametrize("when", ["listed", "hashed"])
def test_what_becomes_a_link_meanwhile_is_not_followed(
    swapped: str, when: str, store: Store, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender may swap a file, or the folder that it lies in, between any two looks at it."""
    path = land(store, "day/digits.csv", csv_of())

    def swap() -> None:
        if swapped == "file":
            path.unlink()
            path.symlink_to(outside / "digits.csv")
        else:
            path.parent.rename(outside / "day")
            path.parent.symlink_to(outside)

    def listed(store: Store) -> Listing:
        found = list_landing(store)
        if when == "listed":
            swap()
        return found

    real = landing.ingest_origins

    def late(*args: object, **more: object) -> object:
        if when == "hashed":
            swap()
        return real(*args, **more)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(landing, "list_landing", listed)
    monkeypatch.setattr(landing, "ingest_origins", late)
    report = ingest_landing(store)
    assert (list(waiting(report)), report.ingested) == (["day/digits.csv"], ())
    assert FOLLOWED_NOT in waiting(report)["day/digits.csv"]


@pytest.mark.parametrize("link", [symbolic, chained, within, hard])
def test_ingest_refuses_a_link_where_none_is_to_be_followed(
    link: Callable[[Store, Path], str], store: Store, outside: Path
) -> None:
    """Exit 66; the command itself follows them."""
    land(store, "a.csv", csv_of())
    name = link(store, outside)
    with pytest.raises(NoInput, match="a link is not followed: copy the file"):
        ingest_origins(store, [landed_object(store, f"landing/{name}")], PLAIN)


def test_a_linked_folder_on_the_way_is_refused(store: Store, outside: Path) -> None:
    """At any depth of the path."""
    path = place(store, folder(store, outside)) / "digits.csv"
    with pytest.raises(NoInput, match="a link is not followed"):
        ingest_origins(store, [landed_object(store, "landing/x/digits.csv")], PLAIN)
    assert ingest(store, [path], PLAIN).rows == 3


def test_a_path_that_is_too_long_is_an_error_of_the_system(store: Store) -> None:
    """However deep a sender nests folders."""
    with pytest.raises(OSError, match="File name too long"):
        open_unlinked(full(store, "/".join(["landing", *["deep"] * 1000])), os.O_RDONLY)


def test_folders_nested_beyond_all_measure_are_named(store: Store) -> None:
    """They stop neither the listing nor the others' files."""
    land(store, "a.csv", csv_of())
    inner = os.open(full(store, "landing"), os.O_PATH)
    for _ in range(60):
        os.mkdir("d" * 200, dir_fd=inner)
        inner, outer = os.open("d" * 200, os.O_PATH, dir_fd=inner), inner
        os.close(outer)
    os.close(inner)
    report = ingest_landing(store)
    assert (len(report.ingested), list(refused(report).values())) == (1, ["File name too long"])


def test_what_is_no_file_is_named_and_never_opened(store: Store) -> None:
    """A pipe would hang the run, a device do what it does."""
    land(store, "a.csv", csv_of())
    os.mkfifo(place(store, "pipe.csv"))
    here = os.open(full(store, "landing"), os.O_PATH)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{here}/socket.csv")
    os.close(here)
    report = ingest_landing(store)
    assert refused(report) == dict.fromkeys(
        ["pipe.csv", "socket.csv"], "it is a pipe, socket or device; expected a file"
    )
    assert len(report.ingested) == 1
