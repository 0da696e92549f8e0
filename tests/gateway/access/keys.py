"""Keys for tests, and files of them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.gateway.access.key_file import KeyFile
from services.gateway.access.key_record import KeyRecord
from services.gateway.access.secret import digest, new_key


def made_key(label: str = "team", **fields: Any) -> tuple[str, KeyRecord]:
    """A key and its record; its scope is chat unless `fields` says otherwise."""
    key = new_key()
    return key, KeyRecord(**{"label": label, "sha256": digest(key), "scopes": ["chat"], **fields})


def add_key(path: Path, label: str = "team", **fields: Any) -> str:
    """Adds a key to a file and returns it."""
    key, record = made_key(label, **fields)
    KeyFile(path).add(record)
    return key


def seconds_ago(seconds: float) -> datetime:
    return datetime.fromtimestamp(time.time() - seconds, UTC)
