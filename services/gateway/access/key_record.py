"""One API key as the file of keys holds it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from services.gateway.access.rules import Scope

MOST_WEIGHT = 100
_MOST = (1 << 53) - 1

Label = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
Count = Annotated[int, Meta(ge=0, le=_MOST)]
Moment = Annotated[datetime, Meta(tz=True)]


class KeyRecord(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`label`: the key's name in logs, metrics and commands; `sha256`: of the whole key, hexadecimal digits.

    `expires`: from then on the key is refused; None: never. `max_concurrent`: requests in flight, 0: a share
    of the gateway's; `requests_per_minute`, `tokens_per_minute`: 0: no limit. `weight`: its part of a busy
    service, in proportion to the other keys' weights.
    """

    label: Label
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    scopes: Annotated[list[Scope], Meta(min_length=1)]
    created: Moment | None = None
    expires: Moment | None = None
    max_concurrent: Count = 0
    requests_per_minute: Count = 0
    tokens_per_minute: Count = 0
    weight: Annotated[int, Meta(ge=1, le=MOST_WEIGHT)] = 1
