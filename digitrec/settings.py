"""Where things are and how much may be used: option, then `DIGITREC_*`, then a named file, then the default."""

import logging
import os
from functools import cache
from pathlib import Path

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from digitrec.addresses import parse_dask
from digitrec.errors import Misconfigured, UsageError
from digitrec.limits import cores

LOG = logging.getLogger("digitrec")
ENV_FILE = "DIGITREC_ENV_FILE"
"""Names a file of settings. That of the working directory is not read: whoever may write there could name a scheduler
that sends code to run, or a store."""
GLANCE_BYTES = 64 * 1024


class Settings(BaseSettings):
    """Read from the environment (`DIGITREC_STORE`, …) and the file that `DIGITREC_ENV_FILE` names."""

    model_config = SettingsConfigDict(env_prefix="DIGITREC_", env_ignore_empty=True, extra="ignore", frozen=True)

    store: str = Field("./store", description="folder (later: s3://bucket/prefix) under which everything lies")
    dask: str | None = Field(None, description="address of a Dask scheduler; none: a local cluster")
    dask_tls_ca: str | None = Field(None, description="PEM file of the authority that signed the certificates")
    dask_tls_cert: str | None = Field(None, description="PEM file of this client's certificate")
    dask_tls_key: str | None = Field(None, description="PEM file of this client's key")
    threads: int = Field(default_factory=cores, ge=1, description="cores to use")
    notify: str | None = Field(None, description="Prefect notification block told of failed runs, as type/name")
    share_rows: bool = Field(False, description="let rows and images leave the store: to Prefect and notifications")

    @field_validator("dask")
    @classmethod
    def _normalize_dask(cls, text: str | None) -> str | None:
        return None if text is None else str(parse_dask(text))

    def with_dask(self, text: str | None) -> "Settings":
        """Return these settings with the scheduler that an option names, if one does. Raises `UsageError`."""
        if text is None:
            return self
        try:
            return self.model_copy(update={"dask": str(parse_dask(text))})
        except ValueError as error:
            raise UsageError(f"--dask {text}: {error}") from error


def load_settings(**overrides: object) -> Settings:
    """Settings from environment and file; an override that is None is left out.

    Raises `Misconfigured`, naming the variable, what it holds, the file it stands in, and what was expected.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    file = _named_file()
    try:
        return Settings(_env_file=file, **given)  # type: ignore[call-arg, arg-type]  # pydantic checks the values
    except ValidationError as error:
        first = error.errors()[0]
        name = "DIGITREC_" + "_".join(str(part) for part in first["loc"]).upper()
        where = f" in {file}" if file and name not in map(str.upper, os.environ) else ""
        why = first["msg"].removeprefix("Value error, ")
        raise Misconfigured(f"{name}{where} is {first['input']!r}: {why[0].lower()}{why[1:]}") from error


def _named_file() -> Path | None:
    """The file of settings that the environment names, proved to be readable; the one that lies here is mentioned."""
    name = os.environ.get(ENV_FILE)
    if not name:
        _mention_file_here()
        return None
    path = Path(name)
    try:
        path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"it is not UTF-8 ({error})"
        raise Misconfigured(f"{ENV_FILE} is {name!r}, which cannot be read: {why}") from error
    return path


@cache
def _mention_file_here() -> None:
    """Say once that a `.env` with settings of ours lies in the working directory, and is not read."""
    here = Path(".env")
    try:
        if here.is_file() and b"DIGITREC_" in here.open("rb").read(GLANCE_BYTES):
            LOG.warning("the file .env in this folder is not read; to use its settings, export %s=.env", ENV_FILE)
    except OSError:
        return
