"""References of a schema, all made pointers into itself."""

from __future__ import annotations

from services.common.errors import InvalidRequest
from services.gateway.chat.messages import Json


class References:
    """Where `$id` and `$anchor` of one schema point to."""

    def __init__(self, root: Json) -> None:
        self._root = root
        self._targets: dict[str, str] = {"#": "#"}
        self._collect(root, "#")

    def pointer(self, reference: Json, path: str) -> str:
        """The JSON pointer a `$ref` means, `#/…`. Raises InvalidRequest where it leads nowhere, out of the
        schema, or only to itself."""
        pointer = self._pointer(reference, path)
        seen = {pointer}
        target = self._at(pointer, path)
        while isinstance(target, dict) and "$ref" in target:
            following = self._pointer(target["$ref"], path)
            if following in seen:
                raise InvalidRequest(f"{path}: $ref {reference!r} leads back to itself", path)
            seen.add(following)
            target = self._at(following, path)
        return pointer

    def _pointer(self, reference: Json, path: str) -> str:
        if isinstance(reference, str):
            if reference in self._targets:
                return self._targets[reference]
            base, _, fragment = reference.partition("#")
            if (not base or base in self._targets) and fragment.startswith("/"):
                return f"{self._targets.get(base, '#')}{fragment}"
        raise InvalidRequest(f"{path}: $ref {reference!r} is no reference within this schema", path)

    def _at(self, pointer: str, path: str) -> Json:
        value = self._root
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            else:
                raise InvalidRequest(f"{path}: $ref leads to {pointer!r}, where nothing is", path)
        return value

    def _collect(self, value: Json, pointer: str) -> None:
        if isinstance(value, list):
            for index, item in enumerate(value):
                self._collect(item, f"{pointer}/{index}")
        if not isinstance(value, dict):
            return
        if isinstance(value.get("$anchor"), str):
            self._targets.setdefault(f"#{value['$anchor']}", pointer)
        if isinstance(value.get("$id"), str):
            self._targets.setdefault(value["$id"].removesuffix("#"), pointer)
        for key, member in value.items():
            if key not in ("enum", "const", "default", "examples"):
                self._collect(member, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
