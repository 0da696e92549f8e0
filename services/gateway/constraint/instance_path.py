"""A place within a JSON value, in words."""

from __future__ import annotations

from collections.abc import Iterable


def path_text(path: Iterable[str | int]) -> str:
    """Returns a path as error messages and `param` spell it: `.properties.a[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
