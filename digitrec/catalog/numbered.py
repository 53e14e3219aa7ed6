"""Objects that are numbered from 1 without gaps, each put if absent."""

from collections.abc import Callable

from digitrec.catalog.store import Store


def find_last(store: Store, key_of: Callable[[int], str]) -> int:
    """Return the last number whose key, as `key_of` makes it, has an object; 0 if there is none.

    Its end is found by doubling steps and then by halving them: of n numbers about 2·log₂ n are looked at.
    """
    low, step = 0, 1
    while store.storage.exists(key_of(low + step)):
        low, step = low + step, step * 2
    high = low + step  # absent
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if store.storage.exists(key_of(middle)) else (low, middle)
    return low
