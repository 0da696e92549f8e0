"""The sampling fields of bodies, made from the table of controls, and the message they fill."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from types import MappingProxyType
from typing import Any, TypeVar, cast, get_args

from msgspec import Struct, defstruct

from perigee.v1 import sampling_pb2
from services.common.sampling.control import Door
from services.common.sampling.controls import BY_NAME, CONTROLS
from services.common.sampling.params import FieldName, from_json

Body = TypeVar("Body", bound=Struct)

# Controls, each with the name of its field, that no route declares itself.
_FIELDS: Mapping[Door, Sequence[tuple[str, str]]] = MappingProxyType(
    {
        door: [(control.name, control.spelt(door)) for control in CONTROLS if control.spelt(door)]
        for door in get_args(Door)
    }
)
_NAMES = {door: tuple(name for name, _ in fields) for door, fields in _FIELDS.items()}
_values = {door: attrgetter(*(field for _, field in fields)) for door, fields in _FIELDS.items()}


def with_controls(door: Door) -> Callable[[type[Body]], type[Body]]:
    """Decorates the struct of a body: adds the fields of all controls that the door's routes do not declare.

    protos/perigee/v1/sampling.proto defines meaning and ranges. Null means absent.
    """
    made = [(field, BY_NAME[name].json_type | None, None) for name, field in _FIELDS[door]]

    def add(body: type[Body]) -> type[Body]:
        described = {"__doc__": body.__doc__}
        kind = defstruct(
            body.__name__, made, bases=(body,), module=body.__module__, namespace=described, kw_only=True
        )
        return cast(type[Body], kind)

    return add


def params_of(
    body: Struct, door: Door, vocab_size: int, name: FieldName, **declared: Any
) -> sampling_pb2.SamplingParams:
    """The message. `declared`: values of controls that the route has its own fields for, or defaults.

    Raises InvalidRequest naming the first control that is out of its range.
    """
    given = dict(zip(_NAMES[door], _values[door](body), strict=True))
    return from_json({**given, **declared}, vocab_size, name)
