"""API keys as an aligned table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from services.gateway.access.key_record import KeyRecord

_COLUMNS = ("LABEL", "SCOPES", "CONCURRENT", "REQUESTS/MIN", "TOKENS/MIN", "WEIGHT", "CREATED", "EXPIRES")


def key_table(records: Iterable[KeyRecord], now: datetime) -> list[str]:
    """Returns the lines: a heading, and one for each key."""
    rows = [_COLUMNS, *(tuple(_cells(record, now)) for record in records)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(_COLUMNS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _cells(record: KeyRecord, now: datetime) -> Iterator[str]:
    yield record.label
    yield ",".join(record.scopes)
    yield str(record.max_concurrent or "share")
    yield str(record.requests_per_minute or "-")
    yield str(record.tokens_per_minute or "-")
    yield str(record.weight)
    yield _day(record.created)
    yield _day(record.expires) + (" (expired)" if record.expires and record.expires <= now else "")


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "-"
