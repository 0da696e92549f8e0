"""Schemas made ready, and kept: what to enforce, what cannot be, and how to check the rest."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import jsonschema_rs

from services.common.bounded_cache import BoundedCache
from services.common.errors import InvalidRequest
from services.common.grammar_limits import Effort, WorkMeter
from services.families.conversation import Json
from services.gateway.constraint.bounds import checked_text
from services.gateway.constraint.enforceable import (
    Enforceable,
    EnforceableReader,
    Finding,
    compile_error,
)
from services.gateway.constraint.keywords import path_text
from services.gateway.constraint.number_bounds import within_64_bits
from services.gateway.constraint.references import with_uri_references

MAX_CACHED = 512
MAX_CACHED_BYTES = 64 << 20
# The newest first: of a schema that does not say, the first under which it is one counts.
_DRAFTS: tuple[tuple[str, Any], ...] = (
    ("https://json-schema.org/draft/2020-12/schema", jsonschema_rs.Draft202012Validator),
    ("http://json-schema.org/draft-07/schema#", jsonschema_rs.Draft7Validator),
    ("http://json-schema.org/draft-04/schema#", jsonschema_rs.Draft4Validator),
)
_BACKTRACK_LIMIT = 100_000
# What a schema and what is made of it take, for each byte of its text: the smallest values weigh most.
_TEXT_BYTES = 32
_OBJECT: Json = {"type": "object"}


@dataclass(frozen=True)
class ReadySchema:
    """`schema`: for the grammar library, which takes it. `findings`: what of the original it does not say.

    `validator`: of the original; None where nothing was found, so that all that follows the grammar is valid.
    """

    schema: Json
    findings: tuple[Finding, ...]
    validator: Any


class SchemaCache:
    """Reads schemas and keeps the ones used last, by content. Any thread; reading may take a second."""

    def __init__(self) -> None:
        self._kept: BoundedCache[tuple[str, bool], ReadySchema] = BoundedCache(MAX_CACHED, MAX_CACHED_BYTES)

    def ready(self, schema: Json, param: str, meter: WorkMeter, *, declared_order: bool) -> ReadySchema:
        """`declared_order` as in EnforceableReader.

        Raises InvalidRequest naming the place within `param`, also where it is more work than `meter` allows.
        """
        text = checked_text(schema, param)
        key = (text, declared_order)
        if (kept := self._kept.get(key)) is not None:
            return kept
        made = _read(schema, param, meter, declared_order)
        meter.check(f"{param}: reading it", param)
        num_patterns = text.count('"pattern') if made.validator is not None else 0
        self._kept.keep(key, made, _TEXT_BYTES * len(text) + num_patterns * _pattern_bytes(num_patterns))
        return made


def _read(schema: Json, param: str, meter: WorkMeter, declared_order: bool) -> ReadySchema:
    draft = _draft(schema, param)
    schema = with_uri_references(schema)
    try:
        reader = EnforceableReader(schema, meter, declared_order=declared_order)
        readable = reader.read()
        meter.rest()
        enforceable = _compilable(readable, meter.effort)
    except InvalidRequest as error:
        raise InvalidRequest(f"{param}{error.message}", f"{param}{error.param}") from error
    validator = None
    if enforceable.findings:
        # As text: of a dict it takes no whole number beyond 64 bits.
        text = json.dumps(schema)
        most = _pattern_bytes(text.count('"pattern'))
        try:
            validator = draft(
                text,
                validate_formats=True,
                pattern_options=jsonschema_rs.FancyRegexOptions(_BACKTRACK_LIMIT, most, most),
                retriever=_refuse_to_fetch,
            )
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            bound = f" (each pattern may compile to {most} bytes)" if "regex" in str(error) else ""
            raise InvalidRequest(f"{param}: {_line(error)}{bound}", param) from error
    return ReadySchema(enforceable.schema, enforceable.findings, validator)


def _pattern_bytes(num_patterns: int) -> int:
    """How large each of so many compiled patterns may be: they are compiled while nothing else runs, and an
    unbounded one takes half a second and 10 MB.
    """
    return max(32 << 10, min(1 << 20, (4 << 20) // max(1, num_patterns)))


def _draft(schema: Json, param: str) -> Any:
    """The validator class of the draft under which this is a schema; InvalidRequest where there is none."""
    given = schema.get("$schema") if isinstance(schema, dict) else None
    known = [
        draft for draft in _DRAFTS if isinstance(given, str) and draft[0].rstrip("#") == given.rstrip("#")
    ]
    schema = within_64_bits(schema)  # others the library cannot read, and no schema is one for such a number
    first: jsonschema_rs.ValidationError | None = None
    for name, draft in known or _DRAFTS:
        try:
            jsonschema_rs.meta.validate({**schema, "$schema": name} if isinstance(schema, dict) else schema)
            return draft
        except jsonschema_rs.ValidationError as error:
            first = first or error
    if first is None:
        return _DRAFTS[0][1]
    path = path_text(first.instance_path)
    raise InvalidRequest(f"{param}{path}: {_line(first)}", f"{param}{path}")


def _compilable(enforceable: Enforceable, effort: Effort) -> Enforceable:
    """The same where the library takes it, else one that it takes for all objects, and what it said."""
    why = compile_error(enforceable.schema, effort)
    if not why:
        return enforceable
    findings = (*enforceable.findings, Finding("", _keyword(why), why))
    return replace(enforceable, schema=_OBJECT, findings=findings)


def _keyword(why: str) -> str:
    """The keyword a message of the library is about."""
    names = ("patternProperty", "min/maxProperties", "allOf", "minimum", "maximum", "format", "enum")
    renamed = {"patternProperty": "patternProperties", "min/maxProperties": "minProperties"}
    found = next((name for name in names if name in why), "schema")
    return renamed.get(found, found)


def _refuse_to_fetch(uri: str) -> Json:
    raise ValueError(f"{uri} is not within the schema")


def _line(error: Exception) -> str:
    return (getattr(error, "message", "") or str(error)).partition("\n")[0][:300]
