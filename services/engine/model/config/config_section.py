"""Reads one JSON object of a checkpoint's config.json key by key, and collects every problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class ConfigSection:
    """Reads typed values; adds missing and invalid keys to `problems` and returns a valid value instead.

    `path` prefixes the names in problems, e.g. ``text_config.``; sections of one file share `problems`.
    """

    def __init__(self, values: Mapping[str, Any], path: str, problems: list[str]) -> None:
        self._values = values
        self._path = path
        self.problems = problems

    def integer(self, name: str, default: int | None = None, minimum: int = 1) -> int:
        """An int of at least `minimum`; required unless there is a default."""
        value = self._values.get(name, default)
        if value is None:
            return self._complain(name, "is missing", minimum)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            return self._complain(name, f"must be an integer of at least {minimum}, not {value!r}", minimum)
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A positive number; required unless there is a default."""
        value = self._values.get(name, default)
        if value is None:
            return self._complain(name, "is missing", 1.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            return self._complain(name, f"must be a positive number, not {value!r}", 1.0)
        return float(value)

    def boolean(self, name: str, default: bool) -> bool:
        """A bool."""
        value = self._values.get(name, default)
        if not isinstance(value, bool):
            return self._complain(name, f"must be true or false, not {value!r}", default)
        return value

    def pair(self, name: str, default: tuple[int, int]) -> tuple[int, int]:
        """Two positive integers."""
        value = self._values.get(name, list(default))
        if isinstance(value, list) and len(value) == 2 and all(type(v) is int and v > 0 for v in value):
            return value[0], value[1]
        return self._complain(name, f"must be two positive integers, not {value!r}", default)

    def expect(self, name: str, allowed: Sequence[object], default: object) -> None:
        """Adds a problem unless the value is one that this engine supports."""
        value = self._values.get(name, default)
        if value not in allowed:
            self._complain(name, f"is {value!r}; supported: {', '.join(map(repr, allowed))}", None)

    def section(self, *names: str) -> ConfigSection | None:
        """The first of `names` that holds an object; None if all are absent or null."""
        for name in names:
            value = self._values.get(name)
            if isinstance(value, Mapping):
                return ConfigSection(value, f"{self._path}{name}.", self.problems)
            if value is not None:
                self._complain(name, f"must be an object, not {value!r}", None)
        return None

    def required_section(self, name: str) -> ConfigSection:
        """The object called `name`; if it is absent, adds a problem and returns an empty one."""
        found = self.section(name)
        if found is None:
            self._complain(name, "is missing", None)
            return ConfigSection({}, f"{self._path}{name}.", [])
        return found

    def names(self) -> list[str]:
        """The keys, in the file's order."""
        return list(self._values)

    def has(self, name: str) -> bool:
        """Whether the key is present and not null."""
        return self._values.get(name) is not None

    def equals(self, name: str, value: object) -> bool:
        """Whether the key holds this value."""
        return self._values.get(name) == value

    def complain(self, name: str, what: str) -> None:
        """Adds a problem that the caller found in `name`."""
        self._complain(name, what, None)

    def _complain(self, name: str, what: str, instead: T) -> T:
        self.problems.append(f"{self._path}{name} {what}")
        return instead
