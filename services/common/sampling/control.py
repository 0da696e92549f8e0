"""The kinds of sampling controls: what values each takes, and how a value gets into SamplingParams."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import GenericAlias, MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from msgspec import Meta

from perigee.v1 import sampling_pb2
from services.common.errors import InvalidRequest

TOKEN_ID = MappingProxyType({"format": "token-id", "minimum": 0})
"""How JSON schemas describe token ids; /openapi.json adds the size of the vocabulary."""

_DIGITS = re.compile("[0-9]{1,9}")

Door: TypeAlias = Literal["openai", "sglang"]
"""The API whose field names a REST route uses."""


class AppliesTo(enum.Enum):
    """Which part of the work a control changes."""

    TOKEN = "token"
    """The choice of each token: a field of SamplingSpec has the control's name."""
    CHOICES = "choices"
    """How many choices there are, how long they get, and their random numbers."""
    TEXT = "text"
    """The text of the answer. The gateway applies it; it is not sent to a decode worker."""


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, both included unless `open_low`."""

    low: float
    high: float
    open_low: bool = False

    def check(self, value: float, param: str) -> None:
        """Raises InvalidRequest naming `param` for a number outside, NaN included."""
        # Written so that NaN fails; whole numbers of any size compare, but not all become floats.
        if not ((self.low < value if self.open_low else self.low <= value) and value <= self.high):
            least = f"more than {self.low}" if self.open_low else f"at least {self.low}"
            bracket = "(" if self.open_low else "["
            limits = least if self.high == math.inf else f"in {bracket}{self.low}, {self.high}]"
            raise InvalidRequest(f"{param} is {value}; it must be {limits}", param)

    def describe(self, kind: Any) -> Any:
        """The type `kind` of a number, which /openapi.json then describes with these limits."""
        limits = {"exclusiveMinimum" if self.open_low else "minimum": self.low}
        if self.high < math.inf:
            limits["maximum"] = self.high
        return Annotated[kind, Meta(extra_json_schema=limits)]


@dataclass(frozen=True)
class Control:
    """One field of perigee.v1.SamplingParams; the subclasses are the kinds of values.

    `spelling`: the field's name in JSON bodies where that differs from `name`; empty: the routes of that door
    declare it themselves. `default`: what an absent or zero field means; None: the request or the model
    decides. `most`: how many entries a list or map may have; 0: it is neither.
    """

    name: str
    applies_to: AppliesTo
    spelling: Mapping[Door, str] = field(default_factory=lambda: MappingProxyType({}), kw_only=True)
    default: Any = field(default=None, kw_only=True)
    most: int = field(default=0, kw_only=True)
    entries: ClassVar[str] = "entries"
    """What error texts call the entries of a list or map."""

    def spelt(self, door: Door) -> str:
        """The name of its field in JSON bodies; empty if the routes declare it themselves."""
        return self.spelling.get(door, self.name)

    @property
    def json_type(self) -> Any:
        """The type of its value in JSON bodies, where null means absent. It describes limits that decoders do
        not check.
        """
        raise NotImplementedError

    def from_json(self, value: Any, param: str) -> Any:
        """A value of `json_type` as `check` and `put` take it. Raises InvalidRequest naming `param`."""
        return value

    def check(self, value: Any, param: str, vocab_size: int) -> None:
        """Raises InvalidRequest naming `param` for a value out of range."""

    def check_count(self, value: Any, param: str) -> None:
        """Raises InvalidRequest naming `param` for a list or map of more than `most` entries.

        Apart from `check`, because a worker gets longer lists than callers may give: the gateway adds
        the tokenizer's stop ids.
        """
        if self.most and len(value) > self.most:
            raise InvalidRequest(f"at most {self.most} {self.entries}, {len(value)} given", param)

    def put(self, params: sampling_pb2.SamplingParams, value: Any) -> None:
        """Sets the field to a checked value."""
        setattr(params, self.name, value)

    def given(self, params: sampling_pb2.SamplingParams) -> Any:
        """The field's value; None if it is absent, or zero where the message cannot tell zero from absent."""
        if self._has_presence:
            return getattr(params, self.name) if params.HasField(self.name) else None  # type: ignore[arg-type]
        return getattr(params, self.name) or None

    def value(self, params: sampling_pb2.SamplingParams) -> Any:
        """The field's value, or the default; hashable."""
        found = self.given(params)
        return self.default if found is None else found

    @cached_property
    def _has_presence(self) -> bool:
        return bool(sampling_pb2.SamplingParams.DESCRIPTOR.fields_by_name[self.name].has_presence)


@dataclass(frozen=True)
class Number(Control):
    """A number. `normalise`: what JSON clients may write in other ways, as a number in range; `json_low`: the
    least that they may write, where it is less than the range's.
    """

    range: Range
    kind: type[int] | type[float] = float
    normalise: Callable[[Any], Any] = field(default=lambda number: number, kw_only=True)
    json_low: int | None = field(default=None, kw_only=True)

    @property
    def json_type(self) -> Any:
        written = self.range if self.json_low is None else replace(self.range, low=self.json_low)
        return written.describe(self.kind)

    def from_json(self, value: Any, param: str) -> Any:
        return self.normalise(value)

    def check(self, value: Any, param: str, vocab_size: int) -> None:
        self.range.check(value, param)


@dataclass(frozen=True)
class Flag(Control):
    """True or false, which is the default. `inverted`: JSON bodies have its opposite."""

    inverted: bool = False
    default: Any = field(default=False, kw_only=True)

    @property
    def json_type(self) -> Any:
        return bool

    def from_json(self, value: Any, param: str) -> Any:
        return value is not self.inverted


@dataclass(frozen=True)
class TokenIds(Control):
    """Token ids, as a set."""

    entries: ClassVar[str] = "ids"

    @property
    def json_type(self) -> Any:
        token_id = Annotated[int, Meta(extra_json_schema=dict(TOKEN_ID))]
        return Annotated[list[token_id], Meta(extra_json_schema={"maxItems": self.most})]

    def check(self, value: Any, param: str, vocab_size: int) -> None:
        _check_ids(value, param, vocab_size)

    def put(self, params: sampling_pb2.SamplingParams, value: Any) -> None:
        getattr(params, self.name).extend(value)

    def value(self, params: sampling_pb2.SamplingParams) -> frozenset[int]:
        return frozenset(getattr(params, self.name))


@dataclass(frozen=True)
class Texts(Control):
    """Texts of 1 to `characters` characters; JSON bodies may have one without a list."""

    characters: int
    entries: ClassVar[str] = "stop strings"

    @property
    def json_type(self) -> Any:
        limits = {"minLength": 1, "maxLength": self.characters}
        text = Annotated[str, Meta(extra_json_schema=limits)]
        return text | Annotated[list[text], Meta(extra_json_schema={"maxItems": self.most})]

    def from_json(self, value: Any, param: str) -> Any:
        return [value] if isinstance(value, str) else value

    def check(self, value: Any, param: str, vocab_size: int) -> None:
        for text in value:
            if not 1 <= len(text) <= self.characters:
                raise InvalidRequest(
                    f"a stop string has 1 to {self.characters} characters, one has {len(text)}", param
                )

    def put(self, params: sampling_pb2.SamplingParams, value: Any) -> None:
        getattr(params, self.name).extend(value)

    def value(self, params: sampling_pb2.SamplingParams) -> tuple[str, ...]:
        return tuple(getattr(params, self.name))


@dataclass(frozen=True)
class TokenNumbers(Control):
    """A number in `range` for each of some token ids; keys of JSON objects are the ids in decimal digits."""

    range: Range

    @property
    def json_type(self) -> Any:
        limits = {"maxProperties": self.most, "propertyNames": {"pattern": f"^{_DIGITS.pattern}$"}}
        numbers: Any = GenericAlias(dict, (str, self.range.describe(float)))
        return Annotated[numbers, Meta(extra_json_schema=limits)]

    def from_json(self, value: Any, param: str) -> Any:
        for key in value:
            if not _DIGITS.fullmatch(key):
                raise InvalidRequest(f"the keys of {param} are token ids, {key[:40]!r} is none", param)
        return {int(token_id): number for token_id, number in value.items()}

    def check(self, value: Any, param: str, vocab_size: int) -> None:
        _check_ids(value, param, vocab_size)
        for number in value.values():
            self.range.check(number, param)

    def put(self, params: sampling_pb2.SamplingParams, value: Any) -> None:
        getattr(params, self.name).update(value)

    def value(self, params: sampling_pb2.SamplingParams) -> tuple[tuple[int, float], ...]:
        return tuple(sorted(getattr(params, self.name).items()))


def _check_ids(token_ids: Iterable[int], param: str, vocab_size: int) -> None:
    ids = Range(0, vocab_size - 1)
    for token_id in token_ids:
        ids.check(token_id, param)
