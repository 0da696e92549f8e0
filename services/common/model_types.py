"""The facts about each model family, by the `model_type` of its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from services.common.errors import CheckpointError

Entry = TypeVar("Entry")


class ModelTypes(Generic[Entry]):
    """A table with one entry per `model_type`: Perigee's own, and those that installed packages declare.

    A package declares one by an entry point in `group`, named as its `model_type`. It is imported when a
    checkpoint asks for it. Perigee's own entries cannot be replaced.
    """

    def __init__(self, own: Mapping[str, Entry], group: str, kind: type[Entry]) -> None:
        self._own = dict(own)
        self._group = group
        self._kind = kind

    @property
    def names(self) -> frozenset[str]:
        """Every `model_type` that has an entry."""
        return frozenset(self._own) | entry_points(group=self._group).names

    def find_for(self, config: Mapping[str, Any], source: str) -> Entry:
        """Returns the entry for a parsed config.json. Raises as `find`; names the `architectures` too."""
        classes = config.get("architectures")
        named = ", ".join(str(each)[:80] for each in classes[:2]) if isinstance(classes, list) else ""
        return self.find(config.get("model_type"), source, f" ({named})" if named else "")

    def find(self, model_type: object, source: str, more: str = "") -> Entry:
        """Returns the entry of a `model_type`. Raises CheckpointError naming it, with `more` behind it,
        `source` and what is served.
        """
        if isinstance(model_type, str):
            if model_type in self._own:
                return self._own[model_type]
            for declared in entry_points(group=self._group, name=model_type):
                entry = declared.load()
                if not isinstance(entry, self._kind):
                    kind = self._kind.__name__
                    raise CheckpointError(f"{declared.value}, {self._group} {model_type}, is no {kind}")
                return entry
        found = "missing" if model_type is None else repr(model_type)
        served = ", ".join(sorted(self.names))
        raise CheckpointError(f"{source}: model_type is {found}{more}; served: {served}")


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in a checkpoint's config.json. Raises CheckpointError if there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return values
