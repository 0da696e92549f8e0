"""How large a schema may be, before anything walks through it."""

from __future__ import annotations

import json

from services.common.errors import InvalidRequest
from services.families.conversation import Json

MAX_BYTES = 256 << 10
MAX_DEPTH = 64
MAX_VALUES = 20_000
MAX_MEMBERS = 1_000


def checked_text(schema: Json, param: str) -> str:
    """The schema as JSON text, the same for equal ones. Raises InvalidRequest naming the bound it breaks.

    Bounds: MAX_DEPTH objects and arrays within each other, MAX_VALUES values in all, MAX_MEMBERS of one
    object, MAX_BYTES. Work grows with the first bound met, not with the schema.
    """
    values = 0
    pending: list[tuple[Json, int]] = [(schema, 1)]
    while pending:
        value, depth = pending.pop()
        values += 1
        members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if isinstance(value, dict) and len(value) > MAX_MEMBERS:
            raise InvalidRequest(f"{param}: an object has {len(value)} members; {MAX_MEMBERS} at most", param)
        if members and depth > MAX_DEPTH:
            raise InvalidRequest(f"{param}: nested more than {MAX_DEPTH} levels deep", param)
        if values + len(pending) + len(members) > MAX_VALUES:
            raise InvalidRequest(f"{param}: more than {MAX_VALUES} values", param)
        pending += [(member, depth + 1) for member in members]
    text = json.dumps(schema, ensure_ascii=False)
    size = len(text.encode(errors="replace"))
    if size > MAX_BYTES:
        raise InvalidRequest(f"{param}: {size} bytes; {MAX_BYTES} at most", param)
    return text
