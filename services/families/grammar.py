"""What the grammars of answers need of a family: its vocabulary, and the tokens that structure an output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from services.families.conversation import Json

MAX_CALLS = 64


@dataclass(frozen=True)
class ToolGrammar:
    """A function that may be called, with the schema of its arguments."""

    name: str
    schema: Json


@dataclass(frozen=True)
class SectionMarkers:
    """Ids of the tokens around calls, outermost first. `begin`: of a section; `opening`, `closing`: those
    that have a meaning inside a section alone.
    """

    begin: int
    opening: tuple[int, ...]
    closing: tuple[int, ...]


@dataclass(frozen=True)
class OutputMarkers:
    """Ids of the tokens that structure an output.

    `end`: ends a turn, and every grammar; `stops`: all that end an answer. `apart`: two special tokens that
    occur in no grammar. `end_reasoning`: None for a model that does not reason; `section`: None for one that
    calls no tools.
    """

    end: int
    stops: frozenset[int]
    apart: tuple[int, int]
    end_reasoning: int | None = None
    section: SectionMarkers | None = None


@dataclass(frozen=True)
class GrammarTokens:
    """A byte-level vocabulary. `ranks`: token bytes to id, every single byte among them; `special`: names of
    the special tokens to ids; `pattern`: the pre-tokenisation, as a regular expression of tiktoken's dialect.
    """

    ranks: Mapping[bytes, int]
    special: Mapping[str, int]
    pattern: str
    markers: OutputMarkers


def json_rule(schema: Json, space: Mapping[str, Json]) -> str:
    """The grammar's term for JSON values under `schema`; `space`: llguidance's options for white space."""
    wrapped = {"allOf": [schema]} if isinstance(schema, bool) else schema
    return f"%json {json.dumps({'x-guidance': space, **wrapped}, ensure_ascii=False)}"
