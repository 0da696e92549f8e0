"""Fills, checks and completes SamplingParams messages, by the table of controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from perigee.v1 import sampling_pb2
from services.common.sampling.controls import BY_NAME, CONTROLS

FieldName: TypeAlias = Callable[[str], str]
"""How the caller's door spells a control, for errors."""
# Zero is what an absent field holds.
_DEFAULTS = {control.name: control.default for control in CONTROLS if control.default}


def from_json(given: Mapping[str, Any], vocab_size: int, name: FieldName) -> sampling_pb2.SamplingParams:
    """A message of values as they are in JSON bodies, by control; None means absent, as in a body.

    Raises InvalidRequest naming the first control that is out of its range.
    """
    params = sampling_pb2.SamplingParams()
    for control, value in given.items():
        if value is not None:
            kind, param = BY_NAME[control], name(control)
            value = kind.from_json(value, param)
            # Here too: the message has no place for some numbers, and rounds others.
            kind.check_count(value, param)
            kind.check(value, param, vocab_size)
            kind.put(params, value)
    return params


def check(params: sampling_pb2.SamplingParams, vocab_size: int, name: FieldName = str) -> None:
    """Raises InvalidRequest naming the first control that is out of its range."""
    for field, value in params.ListFields():
        BY_NAME[field.name].check(value, name(field.name), vocab_size)


def check_callers(params: sampling_pb2.SamplingParams, vocab_size: int, name: FieldName) -> None:
    """As `check`, and for the first list or map with more entries than a caller may give."""
    for field, value in params.ListFields():
        control, param = BY_NAME[field.name], name(field.name)
        control.check_count(value, param)
        control.check(value, param, vocab_size)


def fill_defaults(params: sampling_pb2.SamplingParams, recommended: Mapping[str, float]) -> None:
    """Sets every absent control to what is recommended, by its name, or else to its default if it has one."""
    for name, value in {**_DEFAULTS, **recommended}.items():
        if BY_NAME[name].given(params) is None:
            setattr(params, name, value)
