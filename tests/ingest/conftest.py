"""What the tests of bad input do: ingest the bytes of one source, and see it taken or refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from digitrec.errors import BadData, DigitrecError
from digitrec.ingest.run import IngestReport, ingest
from digitrec.options import IngestOptions
from digitrec.store.layout import Store

from .files import write
from .outcomes import PLAIN, published


@pytest.fixture
def take(tmp_path: Path, store: Store) -> Callable[..., IngestReport]:
    """Ingest the bytes of one source."""

    def run(data: bytes, name: str = "source.csv", options: IngestOptions = PLAIN) -> IngestReport:
        return ingest(store, [write(tmp_path / name, data)], options, threads=1)

    return run


@pytest.fixture
def refused(tmp_path: Path, store: Store) -> Callable[..., str]:
    """Ingest what must be refused: what is said. Nothing is published, nothing staged remains."""

    def run(
        data: bytes, name: str = "source.csv", options: IngestOptions = PLAIN, error: type[DigitrecError] = BadData
    ) -> str:
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(error) as told:
            ingest(store, [path], options, threads=1)
        assert published(store) == []
        return str(told.value)

    return run
