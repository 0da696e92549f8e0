"""Written numbers: decimals as their digits, never as floats."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Numeral:
    """A non-negative decimal in written form: `whole` has no leading zeros, `decimals` may be empty."""

    whole: str
    decimals: str = ""

    def __str__(self) -> str:
        return f"{self.whole}.{self.decimals}" if self.decimals else self.whole

    def padded(self, places: int) -> str:
        """The decimals padded with zeros to `places` digits."""
        return self.decimals.ljust(places, "0")

    def key(self, places: int) -> tuple[int, str, str]:
        """A sort key that orders numerals of at most `places` decimals by value."""
        return len(self.whole), self.whole, self.padded(places)
