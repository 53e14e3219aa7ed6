"""What a look at the surroundings finds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `todo` is empty where all is well; `ill` where nothing will work before it is done."""

    what: str
    found: str
    todo: str = ""
    ill: bool = True

    @property
    def mark(self) -> str:
        return ("!!" if self.ill else "--") if self.todo else "ok"
