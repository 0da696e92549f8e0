"""The form of the answer a chat body asks for."""

from __future__ import annotations

from typing import Any

import msgspec

from services.common.errors import InvalidRequest
from services.gateway.constraint.output_format import (
    GrammarAnswer,
    JsonAnswer,
    OutputFormat,
    RegexAnswer,
)
from services.gateway.constraint.response_format import json_answer, only_one
from services.gateway.http.bodies.tool_choice import read_tool_choice
from services.gateway.pipeline.prompt.json_counts import check_counts

_NONE_GIVEN = (None,) * 5
_FREE = OutputFormat()


def output_format(
    tool_choice: str | dict[str, Any] | None,
    parallel_tool_calls: bool | None,
    response_format: dict[str, Any] | None,
    regex: str | None,
    ebnf: str | None,
) -> OutputFormat:
    """Null means absent; empty strings too. Raises InvalidRequest or UnsupportedValue naming the field."""
    if (tool_choice, parallel_tool_calls, response_format, regex, ebnf) == _NONE_GIVEN:
        return _FREE
    chosen = read_tool_choice(tool_choice)
    return OutputFormat(
        tool_choice=chosen.choice,
        tool_name=chosen.name,
        allowed_tools=chosen.allowed,
        parallel=parallel_tool_calls is not False,
        answer=only_one(
            [
                json_answer(response_format, "response_format"),
                RegexAnswer(regex, "regex") if regex else None,
                GrammarAnswer(ebnf, "ebnf") if ebnf else None,
            ]
        ),
    )


def raw_output_format(
    response_format: dict[str, Any] | None,
    json_schema: str | dict[str, Any] | bool | None,
    regex: str | None,
    ebnf: str | None,
    where: str = "",
) -> OutputFormat:
    """The output format of a prompt without tools. `json_schema` may be text; `where` precedes field names.

    Raises InvalidRequest or UnsupportedValue naming the field.
    """
    return OutputFormat(
        answer=only_one(
            [
                json_answer(response_format, f"{where}response_format"),
                _schema_answer(json_schema, f"{where}json_schema"),
                RegexAnswer(regex, f"{where}regex") if regex else None,
                GrammarAnswer(ebnf, f"{where}ebnf") if ebnf else None,
            ]
        )
    )


def _schema_answer(schema: str | dict[str, Any] | bool | None, param: str) -> JsonAnswer | None:
    if schema is None or schema == "":
        return None
    if not isinstance(schema, str):
        return JsonAnswer(schema, param)
    check_counts(schema.encode("utf-8", "replace"), param)
    try:
        return JsonAnswer(msgspec.json.decode(schema, type=dict[str, Any] | bool), param)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"{param} is no JSON schema: {error}", param) from error
