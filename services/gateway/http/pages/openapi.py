"""The door's description, OpenAPI 3.1, made of its operations and the schemas that decode the bodies."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from services.gateway.http.operations import EVENTS, JSON, Operation
from services.gateway.http.pages.field_texts import add_descriptions
from services.gateway.http.pages.limits import narrowed

_INTRODUCTION = (
    "Unknown fields are ignored. A known one is honoured, or answered with 400 and its name; null, and a "
    'value that means "as usual", are always accepted. Failures are error objects with `param` and `code`; '
    "in a stream that has begun, the last event is one."
)

_NAME = "X-Request-Id"


def describe(operations: Sequence[Operation], vocab_size: int, model: str) -> dict[str, Any]:
    """The document. `vocab_size`, `model`: size of the served model's vocabulary, and its name."""
    schemas = _Schemas(operations, vocab_size, model)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths[operation.path] = {
            method.lower(): schemas.item(operation, method) for method in operation.methods
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Perigee", "version": version("perigee"), "description": _INTRODUCTION},
        "paths": paths,
        "components": {"schemas": schemas.components},
    }


class _Schemas:
    """References to the schemas of all operations."""

    def __init__(self, operations: Sequence[Operation], vocab_size: int, model: str) -> None:
        self._model = model
        found: list[Any] = []
        for operation in operations:
            found += (*operation.failures, operation.body)
            for answer in operation.answers.values():
                found += _several(answer)
        types = [each for each in _once(found) if each is not None]
        made, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
        self._schemas = dict(zip(types, made, strict=True))
        self.components = narrowed(components, vocab_size)
        add_descriptions(self.components)

    def item(self, operation: Operation, method: str) -> dict[str, Any]:
        """An operation object."""
        item: dict[str, Any] = {
            "summary": operation.summary,
            "operationId": f"{method.lower()}{operation.path.translate(str.maketrans('/.{}', '____'))}",
            "responses": {
                "200": self._good(operation),
                "4XX": self._bad(operation),
                "5XX": self._bad(operation),
            },
            "parameters": _parameters(operation),
        }
        if operation.body is not None:
            example = {"model": self._model, **(operation.example or {})}
            content = {JSON: {"schema": self._schemas[operation.body], "example": example}}
            item["requestBody"] = {"required": True, "content": content}
        return item

    def _good(self, operation: Operation) -> dict[str, Any]:
        content = {}
        for media_type, answer in operation.answers.items():
            schema = {"type": "string"} if answer is None else self._any_of(_several(answer))
            is_events = media_type == EVENTS
            content[media_type] = {"schema": self._event(schema, operation) if is_events else schema}
        return {"description": "The answer.", "headers": _headers(), "content": content}

    def _any_of(self, answers: Sequence[Any]) -> dict[str, Any]:
        schemas = [self._schemas[answer] for answer in answers]
        only: dict[str, Any] = schemas[0]
        return only if len(schemas) == 1 else {"anyOf": schemas}

    def _event(self, schema: dict[str, Any], operation: Operation) -> dict[str, Any]:
        """An event of a stream, whose data is a document of `schema`, a failure, or the mark of the end."""
        document = {"anyOf": [schema, self._any_of(operation.failures)]}
        data = {"type": "string", "contentMediaType": JSON, "contentSchema": document}
        if not operation.end_mark:
            return {
                "description": "One event, named by its `type`; the last one is message_stop, or an error.",
                "type": "object",
                "properties": {"event": {"type": "string"}, "data": data},
                "required": ["event", "data"],
            }
        return {
            "description": "One event; the last one is [DONE], or an error.",
            "type": "object",
            "properties": {"data": {"anyOf": [{"const": "[DONE]"}, data]}},
            "required": ["data"],
        }

    def _bad(self, operation: Operation) -> dict[str, Any]:
        return {
            "description": "An error object.",
            "headers": _headers(),
            "content": {JSON: {"schema": self._any_of(operation.failures)}},
        }


def _several(answer: Any) -> tuple[Any, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def _once(types: Sequence[Any]) -> list[Any]:
    """Each once. Not by hash: unions of types have none that is theirs alone."""
    return [each for index, each in enumerate(types) if each not in types[:index]]


def _headers() -> dict[str, Any]:
    schema = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}
    return {_NAME: {"description": "The request's name.", "required": True, "schema": schema}}


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    named = {"type": "string", "enum": list(operation.names)}
    path = [{"name": name, "in": "path", "required": True, "schema": named} for name in in_path]
    about = "Your name for this request, for the log; one that could not stand there is replaced."
    return [*path, {"name": _NAME, "in": "header", "description": about, "schema": {"type": "string"}}]
