"""String formats as patterns, where the grammar library's own are absent or looser than validators."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# These the grammar library knows, and generates nothing that validators refuse.
LIBRARY_FORMATS = frozenset({"duration", "ipv4", "ipv6", "uuid"})
# What they mean no pattern can say.
UNENFORCEABLE_FORMATS = frozenset({"regex"})

_YEAR = r"(?:[1-9]\d{3}|0[1-9]\d{2}|00[1-9]\d|000[1-9])"
_LEAP_YEAR = r"(?:\d{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    rf"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    rf"|02-(?:0[1-9]|1\d|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL}){{0,3}}"
_EMAIL = rf"[A-Za-z0-9_+-]{{1,32}}(?:\.[A-Za-z0-9_+-]{{1,31}})?@{_LABEL}(?:\.{_LABEL}){{1,3}}"
_PATH = r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]*)*"
_TAIL = rf"{_PATH}(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?(?:#[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?"
_AUTHORITY = rf"(?:[A-Za-z0-9._~-]+@)?{_HOST}(?::\d{{1,5}})?"
_URI = rf"[A-Za-z][A-Za-z0-9+-]{{0,15}}://{_AUTHORITY}{_TAIL}"
_POINTER = r"(?:/(?:[^/~]|~[01])*)*"

FORMAT_PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        "date": f"^{_DATE}$",
        "time": f"^{_TIME}$",
        "date-time": f"^{_DATE}T{_TIME}$",
        "email": f"^{_EMAIL}$",
        "idn-email": f"^{_EMAIL}$",
        "hostname": f"^{_HOST}$",
        "idn-hostname": f"^{_HOST}$",
        "uri": f"^{_URI}$",
        "iri": f"^{_URI}$",
        "uri-reference": f"^(?:{_URI}|{_TAIL})$",
        "iri-reference": f"^(?:{_URI}|{_TAIL})$",
        "uri-template": r"^(?:[A-Za-z0-9._~:/?#@!$&()*+,;=-]|\{[A-Za-z0-9_]+\})*$",
        "json-pointer": f"^{_POINTER}$",
        "relative-json-pointer": rf"^(?:0|[1-9]\d{{0,8}})(?:#|{_POINTER})$",
    }
)
