"""What the tests of input do: ingest the bytes of one source, and see it taken or refused."""

from pathlib import Path
from typing import Any, Protocol

import pytest

from digitrec.catalog.store import Store
from digitrec.errors import BadData, DigitrecError
from digitrec.ingest.run import IngestReport, ingest
from digitrec.options import IngestOptions

from .outcomes import check_read, published


class Reads(Protocol):
    """Ingest bytes with options; the first 40 digits must come of it as `check_read` wants them."""

    def __call__(
        self, data: bytes, name: str = "source.csv", *, expect: dict[str, Any] = ..., **options: Any
    ) -> str: ...


class Takes(Protocol):
    def __call__(self, data: bytes, name: str = "source.csv", **options: Any) -> IngestReport: ...


class Refuses(Protocol):
    def __call__(
        self, data: bytes, name: str = "source.csv", *, error: type[DigitrecError] = BadData, **options: Any
    ) -> str: ...


@pytest.fixture
def take(tmp_path: Path, store: Store) -> Takes:
    """Ingest the bytes of one source."""

    def run(data: bytes, name: str = "source.csv", **options: Any) -> IngestReport:
        path = tmp_path / name
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        return ingest(store, [path], IngestOptions(**options), threads=1)

    return run


@pytest.fixture
def reads(take: Takes, store: Store) -> Reads:
    """Ingest the bytes of one source, compare everything, and return what was said."""

    def run(data: bytes, name: str = "source.csv", *, expect: dict[str, Any] = {}, **options: Any) -> str:  # noqa: B006
        report = take(data, name, **options)
        check_read(store, report, **expect)
        return "\n".join(report.notes)

    return run


@pytest.fixture
def refused(tmp_path: Path, store: Store) -> Refuses:
    """Ingest what must be refused: what is said, details too. Nothing is published, nothing staged remains."""

    def run(data: bytes, name: str = "source.csv", *, error: type[DigitrecError] = BadData, **options: Any) -> str:
        path = tmp_path / name
        path.write_bytes(data)
        before = published(store)
        with pytest.raises(error) as told:
            ingest(store, [path], IngestOptions(**options), threads=1)
        assert published(store) == before
        assert "\n" not in str(told.value)
        return "\n".join([str(told.value).replace(str(tmp_path), ""), *told.value.details])

    return run
