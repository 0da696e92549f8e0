"""A line of a service's log, and how people read it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.cli.terminal import DIM, PLAIN, RED, YELLOW, harmless

_COLOURS = {"debug": DIM, "warning": YELLOW, "error": RED, "critical": RED}
LEVELS = ("debug", "info", "warning", "error", "critical")
_OWN = ("event", "level", "timestamp", "role", "exception")
_NAME = 7
"""Characters of the longest service's name."""
_CONFIGURATION = "configuration"


@dataclass(frozen=True)
class LogLine:
    """`raw`: the text without its newline; `time`: its timestamp or, if it has none, that of the one before
    it in the same log, ISO 8601 in UTC; `values`: of a structured line, else None.
    """

    service: str
    raw: str
    time: str
    values: dict[str, Any] | None

    @classmethod
    def of(cls, service: str, raw: str, before: str) -> LogLine:
        """`before`: the time of the line before it."""
        try:
            values = json.loads(raw) if raw.startswith("{") else None
        except ValueError:
            values = None
        if not isinstance(values, dict) or "event" not in values:
            return cls(service, raw, before, None)
        time = values.get("timestamp")
        return cls(service, raw, time if isinstance(time, str) else before, values)

    def is_at_least(self, level: str) -> bool:
        """Whether its level is `level` or worse; what has none counts as worse."""
        own = None if self.values is None else self.values.get("level")
        return own not in LEVELS or LEVELS.index(own) >= LEVELS.index(level)

    def shown(self, *, colours: bool) -> str:
        """Returns the line for people: time of day, service, level, event, values."""
        if self.values is None:
            return f"{'':12}  {self.service:<{_NAME}}  {harmless(self.raw)}"
        level, exception = str(self.values.get("level", "")), self.values.get("exception")
        start, end = (_COLOURS.get(level, ""), PLAIN) if colours else ("", "")
        text = f"{start}{level:<8}{harmless(str(self.values['event']))}{end if start else ''}{self._rest()}"
        traceback = "".join(f"\n    {line}" for line in harmless(str(exception)).splitlines())
        return f"{_local(self.time)}  {self.service:<{_NAME}}  {text}{traceback if exception else ''}"

    def _rest(self) -> str:
        assert self.values is not None
        rest = {key: value for key, value in self.values.items() if key not in _OWN}
        if self.values["event"] == _CONFIGURATION:
            return f"  ({len(rest)} settings: see `perigee config show`, or --json)"
        return "".join(f"  {harmless(key)}={_value(value)}" for key, value in rest.items())


def _local(time: str) -> str:
    """Returns the time of day in this machine's time zone, to the millisecond."""
    try:
        return datetime.fromisoformat(time).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return f"{'':12}"


def _value(value: object) -> str:
    if isinstance(value, str) and value and not any(character in value for character in " \"'=\n\t"):
        return harmless(value)
    return harmless(json.dumps(value, ensure_ascii=False))
