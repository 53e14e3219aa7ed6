"""Whose fault an error of a library is: ours, or that of a setting which somebody else made for that library.

Prefect, Dask and Numba read variables and files that digitrec knows nothing of, many of them while they are imported,
and say in a trace that a value is wrong. `blame` finds the setting, so that the message can name it, where it stands,
and what it holds. It is imported where something went wrong, and by nothing else.
"""

import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any

from dotenv import dotenv_values

from digitrec.addresses import mask_user
from digitrec.errors import DigitrecError, Misconfigured

WORDS = 200
"""Characters of a library's own words that are quoted."""
NAMED = 5
"""A message names so many settings at most."""
DISTINCT = 6
"""Characters from which on a value in an error's text is no coincidence, as `1` or `false` are."""
SECRET = re.compile(r"key|secret|password|passwd|token|auth|credential", re.IGNORECASE)
OURS = ("digitrec", "flows")


@dataclass(frozen=True)
class Given:
    """A setting that somebody made. `where`: the file it stands in; empty for the environment."""

    name: str
    value: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.name}={self.masked!r}" + (f" in {self.where}" if self.where else "")

    @property
    def is_secret(self) -> bool:
        return bool(SECRET.search(self.name))

    @property
    def masked(self) -> str:
        return "***" if self.is_secret else mask_user(self.value)


class _Unreadable(Exception):
    """A file of settings that its library cannot read either."""


def blame(error: BaseException) -> Misconfigured | None:
    """Return what to say if a setting made its library raise `error`; None if the fault may be ours.

    It is the setting's where the library checked its settings or was being imported, or where the error quotes the
    value, unless that is a word which any error may contain.
    """
    for cause in _chain(error):
        if isinstance(cause, ImportError) and (told := _not_installed(cause)):
            return told
        library = _raised_in(cause)
        certain = _is_about_settings(cause) or _raised_by_import(cause)
        if library and (told := _explain(library, cause, certain=certain)):
            return told
    return None


def blame_surely(library: str, error: Exception) -> Misconfigured | None:
    """Return what to say where `library` failed at what works unless its settings are changed; None if none are.

    If no value is quoted in the error, all settings that were made for it are named.
    """
    if isinstance(error, DigitrecError):
        return None
    return _explain(library, error, certain=True)


def given_for(library: str) -> tuple[Given, ...]:
    """Return the settings that were made for `library`, the ones that go before others first."""
    return tuple(SOURCES[library]())


def where_set(name: str) -> str:
    """Return where Prefect's setting `name` comes from, in words."""
    found = next((given for given in given_for("prefect") if given.name == name), None)
    return f"set in {found.where}" if found and found.where else "set in the environment"


def _explain(library: str, error: BaseException, *, certain: bool) -> Misconfigured | None:
    try:
        given = given_for(library)
    except _Unreadable as unreadable:
        return Misconfigured(f"{unreadable}; correct it, or move it away")
    text = " ".join(_one_line(cause) for cause in _chain(error))
    if library == "dask" and "config file at" in text:
        told = _cut(_without(given, text[text.index("A dask config file") :]))
        return Misconfigured(f"{told}; correct it, or move it away")
    quoted = [each for each in given if _is_quoted(each.value, text)]
    suspects = (quoted or given) if certain else [each for each in quoted if len(each.value) >= DISTINCT]
    if not suspects:
        return None
    named = ", ".join(map(str, suspects[:NAMED]))
    why = f"{type(error).__name__}: {_cut(_without(given, _one_line(error)))}"
    return Misconfigured(f"{library} cannot work with {named} ({why}); correct it, or unset it")


def _not_installed(error: ImportError) -> Misconfigured | None:
    """What to say of a package that is missing, broken or of a version that does not fit; None if it is ours."""
    package = (error.name or next(reversed(list(_packages(error.__traceback__))), "")).partition(".")[0]
    if package in OURS:
        return None
    return Misconfigured(
        f"a package that digitrec needs is missing or does not fit: {_cut(mask_user(_one_line(error)))}; "
        "install digitrec again with its constraints.txt (`digitrec doctor` says what does not fit)"
    )


def _without(given: Iterable[Given], text: str) -> str:
    """The text without secrets: a library may quote what it was given."""
    for each in given:
        if each.is_secret and each.value:
            text = text.replace(each.value, "***")
    return mask_user(text)


def _is_quoted(value: str, text: str) -> bool:
    return bool(value) and bool(re.search(rf"(?<![\w.-]){re.escape(value)}(?![\w-])", text))


def _is_about_settings(error: BaseException) -> bool:
    """Whether the error is pydantic's, about a model of settings."""
    return type(error).__name__ == "ValidationError" and str(getattr(error, "title", "")).endswith("Settings")


def _one_line(error: BaseException) -> str:
    """Words of an error; of pydantic's the first complaint with what it is about."""
    if _is_about_settings(error):
        first = error.errors()[0]  # type: ignore[attr-defined]  # pydantic's, see above
        return f"{'.'.join(map(str, first['loc']))} is {first['input']!r}: {first['msg']}"
    return " ".join(str(error).split())


def _cut(text: str) -> str:
    """Words that are fit to be shown: what hides a secret needs to see the whole of it before."""
    return text if len(text) <= WORDS else f"{text[:WORDS]}…"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _raised_in(error: BaseException) -> str | None:
    """The library among `SOURCES` that was at work when `error` was raised: the innermost above our own code."""
    for package in reversed(list(_packages(error.__traceback__))):
        if package in OURS:
            return None
        if library := PACKAGES.get(package):
            return library
    return None


def _packages(trace: TracebackType | None) -> Iterator[str]:
    """The package of each frame, outermost first; that of a flow's script, which is a plain module, is `flows`."""
    while trace is not None:
        frame = trace.tb_frame
        name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        yield "flows" if Path(frame.f_code.co_filename).parent.name == "flows" else name
        trace = trace.tb_next


def _raised_by_import(error: BaseException) -> bool:
    """Whether a library raised this while it was imported, and not because something is not installed."""
    trace, found = error.__traceback__, False
    while trace is not None:
        code = trace.tb_frame.f_code
        name = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        found = found or (code.co_name == "<module>" and name in PACKAGES)
        trace = trace.tb_next
    return found and not isinstance(error, ImportError)


def _from_environment(*prefixes: str) -> Iterator[Given]:
    return (Given(name, value) for name, value in sorted(os.environ.items()) if name.startswith(prefixes))


def _of_prefect() -> Iterator[Given]:
    """From the environment, `.env`, `prefect.toml`, `pyproject.toml` and the active profile, which go in this order."""
    yield from _from_environment("PREFECT_")
    if (path := Path(".env")).is_file():
        entries = dotenv_values(stream=StringIO(_text(path)))
        yield from (Given(name, value or "", ".env") for name, value in entries.items() if name.startswith("PREFECT_"))
    yield from _flat(_toml(Path("prefect.toml")), "prefect.toml")
    yield from _flat(_toml(Path("pyproject.toml")).get("tool", {}).get("prefect", {}), "pyproject.toml")
    yield from _of_profile()


def _of_profile() -> Iterator[Given]:
    home = Path(os.environ.get("PREFECT_HOME") or Path("~/.prefect").expanduser())
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml").absolute()
    profiles = _toml(path)
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active", "")
    entries = profiles.get("profiles", {}).get(active, {})
    yield from (Given(name, str(value), f"profile {active!r} of {path}") for name, value in entries.items())


def _text(path: Path) -> str:
    """The text of a file of settings. Raises `_Unreadable`, which names it."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _Unreadable(f"{path.absolute()} is not UTF-8: {error}") from error
    except OSError as error:
        raise _Unreadable(f"{path.absolute()} cannot be read: {error.strerror}") from error


def _toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file, nothing if it is not there. Raises `_Unreadable`."""
    if not path.exists():
        return {}
    try:
        return tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise _Unreadable(f"{path.absolute()} is not TOML: {error}") from error


def _flat(entries: Mapping[str, Any], where: str, above: str = "") -> Iterator[Given]:
    for name, value in entries.items():
        if isinstance(value, Mapping):
            yield from _flat(value, where, f"{above}{name}.")
        else:
            yield Given(f"{above}{name}", str(value), where)


def _of_dask() -> Iterator[Given]:
    yield from _from_environment("DASK_")
    if config := sys.modules.get("dask.config"):
        for path, entries in config.collect_yaml(config.paths, return_paths=True):
            yield from _flat(entries, str(path))


SOURCES: dict[str, Callable[[], Iterable[Given]]] = {
    "prefect": _of_prefect,
    "dask": _of_dask,
    "numba": lambda: _from_environment("NUMBA_"),
    "matplotlib": lambda: _from_environment("MPL"),
}
PACKAGES = {library: library for library in SOURCES} | {"distributed": "dask"}
"""Whose code it is when a package raises something."""
