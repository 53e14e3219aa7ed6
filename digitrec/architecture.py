"""What a network is, as plain numbers; known also where torch is not imported."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from digitrec.errors import Corrupt, NewerFormat

SCALE: Final = 1 / 255
"""Grey values 0…255 become 0…1."""


@dataclass(frozen=True)
class Architecture:
    """Everything that fixes the network's shape, and what it is shown of an image, as the card keeps it."""

    hidden: tuple[int, ...]
    dropout: float = 0.0
    batch_norm: bool = False
    deskew: bool = False

    def shown(self, images: np.ndarray) -> np.ndarray:
        """What the first layer gets to see of images: uint8 [n, 784] → uint8 [n, 784]."""
        if not self.deskew:
            return images
        from digitrec.deskew import deskew  # Numba takes a third of a second to import

        return deskew(images)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"scale": SCALE}

    @classmethod
    def from_json(cls, numbers: dict[str, Any]) -> "Architecture":
        """Raises `Corrupt` if the numbers are not those of a network, `NewerFormat` if there are some unknown here."""
        if numbers.get("scale") != SCALE:
            raise Corrupt(f"the model scales its input by {numbers.get('scale')}, expected {SCALE}")
        if unknown := numbers.keys() - cls.__dataclass_fields__.keys() - {"scale"}:
            raise NewerFormat(f"the model's architecture has {', '.join(sorted(unknown))}: upgrade digitrec")
        try:
            hidden, dropout = tuple(numbers["hidden"]), float(numbers["dropout"])
            return cls(hidden, dropout, bool(numbers["batch_norm"]), bool(numbers.get("deskew", False)))
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"the model's architecture cannot be read from its card: {numbers}") from error
