"""References of a schema, all made pointers into itself."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from services.common.errors import InvalidRequest
from services.families.conversation import Json
from services.gateway.constraint.keywords import parts, with_parts

# What may stand in a URI reference as it is; beside it a percent sign that begins an encoded octet.
_URI_CHARACTERS = ":/?#[]@!$&'()*+,;=-._~"
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


def with_uri_references(schema: Json) -> Json:
    """A copy whose `$ref`s are URI references: what may not stand in one is percent-encoded.

    Schemas in the wild have names with spaces and letters of any script in them.
    """
    if isinstance(schema, list):
        return [with_uri_references(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    changed = with_parts(schema, with_uri_references)
    if isinstance(changed.get("$ref"), str):
        changed["$ref"] = quote(_STRAY_PERCENT.sub("%25", changed["$ref"]), safe=_URI_CHARACTERS + "%")
    return changed


class References:
    """The targets of `$id` and `$anchor` in one schema."""

    def __init__(self, root: Json) -> None:
        """`root`: as `with_uri_references` gives it."""
        self._root = root
        self._targets: dict[str, str] = {"#": "#"}
        self._collect(root, "#")

    def pointer(self, reference: Json, path: str) -> str:
        """The JSON pointer a `$ref` means, `#/…`, percent-encoded. Raises InvalidRequest where it leads
        nowhere, out of the schema, or only to itself."""
        pointer = self._pointer(reference, path)
        seen = {pointer}
        target = self.target(pointer, path)
        while isinstance(target, dict) and "$ref" in target:
            following = self._pointer(target["$ref"], path)
            if following in seen:
                raise InvalidRequest(f"{path}: $ref {reference!r} leads back to itself", path)
            seen.add(following)
            target = self.target(following, path)
        return pointer

    def target(self, pointer: str, path: str) -> Json:
        """What a percent-encoded pointer points to; `path`: of the reference, for the error where nothing
        is there.
        """
        value = self._root
        for part in pointer.split("/")[1:]:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            else:
                raise InvalidRequest(f"{path}: $ref leads to {pointer!r}, where nothing is", path)
        return value

    def _pointer(self, reference: Json, path: str) -> str:
        if isinstance(reference, str):
            if reference in self._targets:
                return self._targets[reference]
            base, _, fragment = reference.partition("#")
            if (not base or base in self._targets) and fragment.startswith("/"):
                return f"{self._targets.get(base, '#')}{_normal(fragment)}"
        raise InvalidRequest(f"{path}: $ref {reference!r} is no reference within this schema", path)

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
        for keys, part in parts(value):
            self._collect(part, pointer + "".join(f"/{_token(key)}" for key in keys))


def _token(key: str | int) -> str:
    return quote(str(key).replace("~", "~0").replace("/", "~1"), safe="$~")


def _normal(fragment: str) -> str:
    """The same pointer, as `_token` spells it: one spelling for one place."""
    return "/".join(quote(unquote(part), safe="$~") for part in fragment.split("/"))
