"""Names of datasets come from the request: the content, and the options that change rows. Nothing else."""

import gzip
import re
from pathlib import Path
from typing import Any

import pytest

from digitrec.catalog.layout import name_from
from digitrec.catalog.store import Store
from digitrec.errors import AlreadyPublished
from digitrec.ingest.run import IngestReport, ingest
from digitrec.options import IngestOptions

from .conftest import Takes
from .files import KAGGLE, labelled_rows, table
from .outcomes import LABELLED_CSV, PLAIN_CSV

UNKNOWN_CSV = table(KAGGLE, [["?", *row[1:]] for row in labelled_rows()])
NUMBERED_CSV = table([f"V{n}" for n in range(1, 786)], labelled_rows())


def digits_of(report: IngestReport) -> str:
    match = re.fullmatch(r"[a-z0-9_-]+-([0-9a-f]{16})", report.dataset)
    assert match
    return match[1]


def test_names_carry_sixteen_digits_of_the_request(take: Takes) -> None:
    """F18: 32 bits were not enough for 100,000 files of one name. The stem is cleaned and cut."""
    assert take(LABELLED_CSV, "My Digits.csv.gz").dataset.startswith("my-digits-")
    digits = {
        digits_of(take(LABELLED_CSV, name)) for name in ("a.csv", "Ä.csv", ".csv", "b" * 200 + ".csv", "c.tar.gz")
    }
    assert len(digits) == 1
    assert len(take(LABELLED_CSV, "d" * 200 + ".csv").dataset) <= 64


def test_names_of_one_stem_do_not_collide() -> None:
    """F18: two requests that agree in their first eight digits have two names."""
    assert name_from("export", "0123456789abcdef" + "0" * 48) != name_from("export", "01234567" + "f" * 56)


def test_the_same_file_again_is_already_ingested(take: Takes) -> None:
    """Exit 0, and nothing is written."""
    first, again = take(PLAIN_CSV), take(PLAIN_CSV)
    assert (first.already, again.already) == (False, True)
    assert again.dataset == first.dataset
    assert again.lines()[0].startswith("already ingested")


@pytest.mark.parametrize(
    "options",
    [
        {"max_rejects": 0.3},
        {"allow_unterminated": True},
        {"in_order": True},
        {"key": "none"},
        {"label": "label"},
        {"label": "LABEL"},
        {"label": "first"},
        {"ignore": ("nothing",)},
    ],
)
def test_an_option_that_changes_no_row_is_the_same_request(options: dict[str, Any], take: Takes) -> None:
    """However the same columns were named, and whatever might have been rejected."""
    first, again = take(LABELLED_CSV), take(LABELLED_CSV, **options)
    assert again.already
    assert again.dataset == first.dataset


@pytest.mark.parametrize("options", [{"label": "none"}, {"key": "label"}, {"pixel_max": 300.0}, {"ignore": ("Label",)}])
def test_an_option_that_changes_rows_is_another_request(
    options: dict[str, Any], take: Takes, tmp_path: Path, store: Store
) -> None:
    """Under the same name it is refused (exit 73); without one it gets a name of its own."""
    assert take(LABELLED_CSV).dataset != take(LABELLED_CSV, **options).dataset
    take(LABELLED_CSV, dataset="digits")
    with pytest.raises(AlreadyPublished, match="already holds something else"):
        take(LABELLED_CSV, dataset="digits", **options)


def test_options_that_come_to_the_same_are_one_request(take: Takes) -> None:
    """--label none and --ignore label; --label V1 and --label first."""
    assert take(LABELLED_CSV, label="none").dataset == take(LABELLED_CSV, ignore=("label",)).dataset
    assert take(NUMBERED_CSV, label="V1").dataset == take(NUMBERED_CSV, label="first").dataset
    assert take(UNKNOWN_CSV).dataset == take(UNKNOWN_CSV, max_rejects=1).dataset


def test_the_content_counts_as_it_lies_there(take: Takes) -> None:
    """A packed file is another source; the same pack again is not."""
    packed = gzip.compress(PLAIN_CSV, mtime=0)
    assert digits_of(take(PLAIN_CSV)) != digits_of(take(packed, "b.csv.gz"))
    assert digits_of(take(packed, "c.csv.gz")) == digits_of(take(packed, "b.csv.gz"))


def test_members_that_are_read_belong_to_the_request(take: Takes) -> None:
    """Two members of one archive are two datasets; another order is another one."""
    import io
    import zipfile

    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("10.csv", PLAIN_CSV)
        archive.writestr("9.csv", PLAIN_CSV)
    data = sink.getvalue()
    names = [take(data, "a.zip", member=member).dataset for member in (("9.csv",), ("10.csv",), ())]
    names.append(take(data, "a.zip", in_order=True).dataset)
    assert len(set(names)) == 4


def test_the_order_of_sources_belongs_to_the_request(tmp_path: Path, store: Store) -> None:
    """As it is read, not as it was given."""
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, rows in zip(paths, (range(20), range(20, 40)), strict=True):
        path.write_bytes(table(KAGGLE, labelled_rows(rows)))
    named = IngestOptions(dataset="both")
    assert not ingest(store, paths, named).already
    assert ingest(store, paths[::-1], named).already
    with pytest.raises(AlreadyPublished):
        ingest(store, paths[::-1], named.model_copy(update={"in_order": True}))


def test_the_same_name_with_other_content_is_refused(take: Takes, store: Store) -> None:
    """Exit 73; what is there stays as it is."""
    take(LABELLED_CSV, dataset="digits")
    before = sorted((path, path.read_bytes()) for path in Path(store.url).rglob("*") if path.is_file())
    with pytest.raises(AlreadyPublished, match="already holds something else"):
        take(PLAIN_CSV, dataset="digits")
    assert before == sorted((path, path.read_bytes()) for path in Path(store.url).rglob("*") if path.is_file())
