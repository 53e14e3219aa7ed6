"""digitrec: distributed batch scoring of handwritten digits.

Public names are loaded when first used, so that `import digitrec` is quick and imports neither torch nor pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digitrec.catalog.reader import read_dataset as read_dataset
    from digitrec.catalog.reader import read_predictions as read_predictions
    from digitrec.catalog.reader import read_rejects as read_rejects
    from digitrec.catalog.store import Store as Store

__version__ = "0.1.0"
__all__ = ["Store", "__version__", "read_dataset", "read_predictions", "read_rejects"]

_HOMES = {
    "Store": "digitrec.catalog.store",
    **dict.fromkeys(("read_dataset", "read_predictions", "read_rejects"), "digitrec.catalog.reader"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
