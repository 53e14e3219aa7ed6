"""From a store's URL to the backend that holds its bytes."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from digitrec.errors import Misconfigured
from digitrec.storage.base import Storage
from digitrec.storage.local import LocalStorage

URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)

_registered: dict[str, Storage] = {}


def register(storage: Storage) -> Storage:
    """Let `at` find a backend that lives in this process only, by its `url`; return it."""
    _registered[storage.url] = storage
    return storage


def is_relative(location: str) -> bool:
    """Return whether another working directory would make another storage of this location."""
    return location not in _registered and URL.match(location) is None and not Path(location).expanduser().is_absolute()


def at(location: str | Path) -> Storage:
    """Return the storage at a folder, at a `file://` URL, or that was registered; a relative folder is taken from the
    working directory.

    Raises `Misconfigured` for any other URL, or one whose path is not absolute.
    """
    text = str(location)
    if text in _registered:
        return _registered[text]
    scheme = URL.match(text)
    if scheme is None:
        return LocalStorage(str(Path(text).expanduser().absolute()))
    if scheme[1].lower() != "file":
        raise Misconfigured(f"--store {text}: {scheme[1]} stores are not supported yet; expected a local folder")
    parts = urlsplit(text.replace("?", "%3F").replace("#", "%23"))
    if parts.netloc not in {"", "localhost"} or not parts.path:
        raise Misconfigured(f"--store {text}: a file:// URL needs an absolute path, as in file:///data/store")
    return LocalStorage(str(Path(unquote(parts.path))))
