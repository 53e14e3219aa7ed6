"""Where things are and how much may be used: option, then `DIGITREC_*`, then `.env`, then the default."""

import os

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from digitrec.errors import Misconfigured


class Settings(BaseSettings):
    """Read from the environment (`DIGITREC_STORE`, …) and a `.env` file in the working directory."""

    model_config = SettingsConfigDict(
        env_prefix="DIGITREC_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    store: str = Field("./store", description="folder (later: s3://bucket/prefix) under which everything lies")
    dask: str | None = Field(None, description="address of a Dask scheduler; none: a local cluster")
    dask_tls_ca: str | None = Field(None, description="PEM file of the authority that signed the certificates")
    dask_tls_cert: str | None = Field(None, description="PEM file of this client's certificate")
    dask_tls_key: str | None = Field(None, description="PEM file of this client's key")
    threads: int = Field(default_factory=lambda: len(os.sched_getaffinity(0)), ge=1, description="cores to use")
    notify: str | None = Field(None, description="Prefect notification block told of failed runs, as type/name")


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment; an override that is None is left out.

    Raises `Misconfigured`, naming the variable, what it holds and what was expected.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic checks the values, that is its job here
    except ValidationError as error:
        first = error.errors()[0]
        name = "DIGITREC_" + "_".join(str(part) for part in first["loc"]).upper()
        raise Misconfigured(f"{name} is {first['input']!r}: {first['msg'].lower()}") from error
