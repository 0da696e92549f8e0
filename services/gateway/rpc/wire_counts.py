"""Bounds on how much a protobuf message describes, counted in its bytes before it is built.

Two bytes can be a message; once it is built it takes fifty times as much, and it is too late to count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from services.common.errors import InvalidRequest
from services.gateway.pipeline.prompt.json_counts import MOST_ITEMS

MOST_FIELDS = 1 << 16

UNCOUNTED_BYTES = 1 << 14
"""Shorter messages are built in milliseconds and need no count; counting longer ones may take longer."""

_VARINT, _LENGTH = 0, 2
# Wire types of numbers of a fixed size, and the size.
_FIXED = MappingProxyType({1: 8, 5: 4})
_UNPACKED = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE)
# All bytes of a varint except its last.
_UNFINISHED = bytes(range(128, 256))


class WireCounts:
    """`bounds`: most values of a field in one request, by its full name; others have a general one."""

    def __init__(self, bounds: Mapping[str, int]) -> None:
        self._bounds = bounds

    def check(self, data: bytes, kind: Descriptor) -> None:
        """Raises InvalidRequest naming the field whose bound is passed, DecodeError for what is no message.

        Ends where a bound is passed. Costs nothing below UNCOUNTED_BYTES.
        """
        if len(data) >= UNCOUNTED_BYTES:
            _Walk(data, self._bounds).message(0, len(data), kind, "")


class _Walk:
    """Walks the fields of a message and of the messages in it; skips texts."""

    def __init__(self, data: bytes, bounds: Mapping[str, int]) -> None:
        self._data = data
        self._bounds = bounds
        self._values: Counter[str] = Counter()
        self._fields = 0

    def message(self, position: int, end: int, kind: Descriptor, path: str) -> None:
        """One of this kind from `position` to `end`; `path`: its own, with a dot behind it."""
        data, fields = self._data, kind.fields_by_number
        while position < end:
            tag = data[position]
            position += 1
            if tag > 127:
                tag, position = self._varint(position - 1)
            field = fields.get(tag >> 3)
            self._fields += 1
            if self._fields > MOST_FIELDS:
                raise _too_many(MOST_FIELDS, "fields", path + field.name if field else path[:-1])
            wire = tag & 7
            if wire == _VARINT:
                size = self._varint(position)[1] - position
            elif wire == _LENGTH:
                size, position = self._varint(position)
            elif wire in _FIXED:
                size = _FIXED[wire]
            else:
                raise DecodeError(f"wire type {wire} is no part of this protocol")
            if field is not None:
                self._value(field, wire, position, min(position + size, end), path)
            position += size

    def _value(self, field: FieldDescriptor, wire: int, start: int, end: int, path: str) -> None:
        name = field.full_name
        packed = wire == _LENGTH and field.type not in _UNPACKED
        self._values[name] += len(self._data[start:end].translate(None, _UNFINISHED)) if packed else 1
        most = self._bounds.get(name, MOST_ITEMS)
        if self._values[name] > most:
            raise _too_many(most, "values", path + field.name)
        if wire == _LENGTH and field.message_type is not None:
            self.message(start, end, field.message_type, f"{path}{field.name}.")

    def _varint(self, position: int) -> tuple[int, int]:
        """The number there, and the position behind it."""
        if position < len(self._data) and self._data[position] < 128:
            return self._data[position], position + 1
        value = 0
        for shift in range(0, 70, 7):
            byte = self._data[position] if position < len(self._data) else 0
            value |= (byte & 127) << shift
            position += 1
            if byte < 128:
                return value, position
        raise DecodeError("a number takes more than ten bytes")


def _too_many(most: int, what: str, param: str) -> InvalidRequest:
    where = f"{param}: " if param else ""
    message = f"{where}at most {most} {what} are taken in a request; there are more"
    return InvalidRequest(message, param or None)
