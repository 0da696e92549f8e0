"""What of a request is ignored: said in a header, counted, or refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from services.common.errors import UnsupportedValue
from services.gateway.metrics import GatewayMetrics

HEADER = "Perigee-Ignored"
_MOST_NAMES = 32
_MOST_CHARACTERS = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9._\[\]-]")


class IgnoredFields:
    """`strict`: whether requests with something to ignore are refused."""

    def __init__(self, metrics: GatewayMetrics, *, strict: bool) -> None:
        self._metrics = metrics
        self._strict = strict

    def header(self, names: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """The header that lists what is ignored, each once; nothing where that is nothing. `names`: by kind:
        field, tool (its type) or beta.

        Raises UnsupportedValue naming the first, if that is wanted.
        """
        listed = []
        for kind, given in names.items():
            for name in dict.fromkeys(given):
                self._metrics.ignored_fields.labels(kind).inc()
                shown = _UNSAFE.sub("_", name[:_MOST_CHARACTERS])
                listed.append(shown if kind == "field" else f"{kind}:{shown}")
        if not listed:
            return {}
        if self._strict:
            raise UnsupportedValue(f"{listed[0]} is unknown here (--strict-fields)", listed[0])
        more = ["..."] if len(listed) > _MOST_NAMES else []
        return {HEADER: ", ".join(listed[:_MOST_NAMES] + more)}
