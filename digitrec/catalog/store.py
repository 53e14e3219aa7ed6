"""The handle of a store."""

from dataclasses import dataclass
from pathlib import Path

from digitrec import storage
from digitrec.storage import Storage


@dataclass(frozen=True)
class Store:
    """A root under which everything lies: datasets, model versions, predictions. Small, hashable, pickles to a worker.

    `url`: an absolute path, or the URL of another backend.
    """

    url: str

    @classmethod
    def at(cls, location: str | Path) -> "Store":
        """Return the store at a folder or URL; a relative folder is taken from the working directory.

        Raises `Misconfigured` for a URL that no backend serves.
        """
        return cls(storage.at(location).url)

    @property
    def storage(self) -> Storage:
        """The bytes of this store, by key."""
        return storage.at(self.url)

    def address(self, key: str) -> str:
        """Return what names an object, or a folder of them, to a person: a path or a URL."""
        return self.storage.address(key)
