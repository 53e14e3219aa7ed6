"""Where the objects of a local store lie, for tests that look at, damage or remove them behind digitrec's back."""

from digitrec.catalog.store import Store


def full(store: Store, key: str) -> str:
    """The path of an object, or a folder of them."""
    return f"{store.url}/{key}" if key else store.url
