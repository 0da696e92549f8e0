"""The file of API keys: read by gateways, changed by `perigee keys`."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from services.common.errors import ConfigError
from services.gateway.access.key_record import KeyRecord

_MODE = 0o600
_MOST_BYTES = 8 << 20
_MOST_KEYS = 10_000


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[KeyRecord]


class KeyFile:
    """A JSON document `{"keys": [...]}`. It holds no key, only digests; who can write it can add a key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[KeyRecord, ...]:
        """Returns all keys. Raises ConfigError if there is no such file, if others than its owner may change
        it, or if it is not a valid file of keys.
        """
        return self._records(self._bytes())

    def add(self, record: KeyRecord) -> None:
        """Adds a key; makes the file where it is missing. Raises ConfigError as `read`, or if the label is
        taken.
        """
        with self._changing() as records:
            if any(known.label == record.label for known in records):
                raise ConfigError(f"label: {record.label!r} has a key already; revoke it, or choose another")
            self._replace([*records, record])

    def remove(self, label: str) -> KeyRecord:
        """Removes the key with that label and returns it. Raises ConfigError as `read`, or if it has none."""
        with self._changing() as records:
            found = next((record for record in records if record.label == label), None)
            if found is None:
                known = ", ".join(record.label for record in records) or "none"
                raise ConfigError(f"label: {label!r} has no key in {self.path}; known: {known}")
            self._replace([record for record in records if record is not found])
            return found

    def _bytes(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(_MOST_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"api_keys: {self.path}: {error.strerror}") from error
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(
                f"api_keys: {self.path}: others than its owner may change it (mode {stat.S_IMODE(mode):o}); "
                f"chmod it to {_MODE:o}"
            )
        if len(data) > _MOST_BYTES:
            raise ConfigError(f"api_keys: {self.path}: has more than {_MOST_BYTES} bytes")
        return data

    def _records(self, data: bytes) -> tuple[KeyRecord, ...]:
        try:
            records = msgspec.json.decode(data, type=_Document).keys
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"api_keys: {self.path}: {error}") from error
        if len(records) > _MOST_KEYS:
            raise ConfigError(f"api_keys: {self.path}: has {len(records)} keys, more than {_MOST_KEYS}")
        for name in ("label", "sha256"):
            seen: set[str] = set()
            for index, record in enumerate(records):
                value = getattr(record, name)
                if value in seen:
                    raise ConfigError(f"api_keys: {self.path}: keys[{index}].{name}: {value} occurs twice")
                seen.add(value)
        return tuple(records)

    @contextmanager
    def _changing(self) -> Iterator[tuple[KeyRecord, ...]]:
        """Gives the keys to a block in which no other process changes the file."""
        try:
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ConfigError(f"api_keys: {self.path.parent}: {error.strerror}") from error
        try:
            # The directory is locked, because the file is replaced and may not exist yet.
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield self.read() if self.path.exists() else ()
        finally:
            os.close(directory)

    def _replace(self, records: Sequence[KeyRecord]) -> None:
        """Puts a whole new file in place of the old one: readers see either of them."""
        data = msgspec.json.format(msgspec.json.encode(_Document(list(records))), indent=2)
        target = self.path.resolve()
        try:
            handle, made = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        except OSError as error:
            raise ConfigError(f"api_keys: {target.parent}: {error.strerror}") from error
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), _MODE)
                file.write(data + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(made, target)
        except OSError as error:
            with suppress(OSError):
                os.unlink(made)
            raise ConfigError(f"api_keys: {target}: {error.strerror}") from error
