"""Renders a checkpoint's own chat template with jinja2, in a sandbox within a process of its own.

A program: reads a JSON object with `template`, a text, and `jobs`, an array of objects with a template's
variables, and writes a JSON array with `{"text": ...}` or `{"error": ...}` for each job.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_CHARACTERS = 4 << 20
CPU_SECONDS = 20
_MEMORY_BYTES = 1 << 30


class GenerationBlocks(Extension):
    """Makes `{% generation %}`, which marks what a model is trained on, the same as what it encloses."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Returns the enclosed nodes."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def render_all(template: str, jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Returns each job's text, or what is wrong with it. All texts together have bounded length."""
    try:
        generate = _environment().from_string(template).generate
    except Exception as error:  # noqa: BLE001 - the template is a stranger's
        return [{"error": _message(error)}] * len(jobs)
    answers = []
    room = MOST_CHARACTERS
    for job in jobs:
        answer = _render(generate, job, room)
        room -= len(answer.get("text", ""))
        answers.append(answer)
    return answers


def _render(generate: Callable[..., Any], job: Mapping[str, Any], room: int) -> dict[str, str]:
    pieces: list[str] = []
    try:
        for piece in generate(**job):
            room -= len(piece)
            if room < 0:
                return {"error": f"all texts together are longer than {MOST_CHARACTERS:,} characters"}
            pieces.append(piece)
    except Exception as error:  # noqa: BLE001 - the template is a stranger's
        return {"error": _message(error)}
    return {"text": "".join(pieces)}


def _environment() -> ImmutableSandboxedEnvironment:
    """Returns an environment like that in which published chat templates are rendered."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, GenerationBlocks]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Not jinja2's own, which escapes for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def _limit_resources() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def main() -> None:
    """Answers what stands on the standard input."""
    given = json.load(sys.stdin)
    _limit_resources()
    json.dump(render_all(given["template"], given["jobs"]), sys.stdout)


if __name__ == "__main__":
    main()
