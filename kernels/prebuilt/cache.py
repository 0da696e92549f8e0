"""Where triton finds the kernels that were compiled ahead."""

from __future__ import annotations

import json
from pathlib import Path

from triton.runtime.cache import FileCacheManager

DIRECTORY = Path(__file__).with_name("cache")
"""Where `python -m kernels.prebuilt` puts them."""


class PrebuiltCache(FileCacheManager):  # type: ignore[misc]  # triton has no annotations
    """Reads DIRECTORY, then triton's own cache, to which it writes.

    DIRECTORY may have been moved since it was filled, and may be read-only.
    """

    def __init__(self, key: str, override: bool = False, dump: bool = False) -> None:
        super().__init__(key, override, dump)
        self._prebuilt = DIRECTORY / key

    def get_file(self, filename: str) -> str | None:
        """The path of a file of this key; None if it is in neither place."""
        path = self._prebuilt / filename
        own: str | None = str(path) if path.exists() else super().get_file(filename)
        return own

    def get_group(self, filename: str) -> dict[str, str] | None:
        """The paths of the files that belong together, by name; None if they are in neither place."""
        listed = self._prebuilt / f"__grp__{filename}"
        if not listed.exists():
            own: dict[str, str] | None = super().get_group(filename)
            return own
        # The list has the paths at which the files were written.
        names = json.loads(listed.read_text(encoding="utf-8"))["child_paths"]
        return {name: str(self._prebuilt / name) for name in names}
