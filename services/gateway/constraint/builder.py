"""From the caller's wishes to the constraint that goes to the decode worker."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
import unicodedata
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from perigee.v1 import decode_pb2
from services.common.errors import InvalidRequest, UnsupportedValue
from services.common.fairness.competition import Competition
from services.common.fairness.cores import Rests
from services.common.fairness.places import Places
from services.common.fairness.threads import FairThreads
from services.common.grammar_limits import Effort, WorkMeter
from services.families.conversation import Conversation, Json
from services.families.family import ChatFormat
from services.families.grammar import MAX_CALLS, ToolGrammar
from services.gateway.constraint.call_checks import CallChecks
from services.gateway.constraint.enforceable import as_arguments
from services.gateway.constraint.grammar import json_grammar, whole_grammar
from services.gateway.constraint.output_format import (
    Answer,
    JsonAnswer,
    OutputFormat,
    RegexAnswer,
)
from services.gateway.constraint.schema_cache import ReadySchema, SchemaCache
from services.gateway.constraint.text_grammar import TextGrammars

MAX_WAITING = 64
MAX_LARGE = 32
MAX_TOOLS = 256
MAX_NAME_CHARACTERS = 256


@dataclass(frozen=True)
class Constraint:
    """`proto`: None where the output is free. `checks`: of finished calls, before they are released.

    `tools`: the functions that the grammar lets be called, by name, each with the keyword for which its calls
    are held until they are checked; empty: the grammar makes every call valid.
    """

    proto: decode_pb2.Constraint | None = None
    checks: CallChecks = field(default_factory=lambda: CallChecks({}))
    tools: Mapping[str, str] = field(default_factory=dict)

    @property
    def streamed(self) -> frozenset[str]:
        """Names of the functions whose calls are valid, whatever the model writes."""
        return frozenset(name for name, keyword in self.tools.items() if not keyword)

    def held_for(self, name: str) -> str:
        """Why calls of a function are held: a keyword, or `no_grammar`; empty: they are not."""
        return self.tools.get(name, "no_grammar")


_FREE = Constraint()


class ConstraintBuilder:
    """Reads schemas in threads of its own, two for those that are read with QUICK effort, one for others, so
    that a slow one delays only its like. Tenants share threads and places. See also SchemaCache.
    """

    def __init__(self, chat: ChatFormat, *, closes_calls: bool = False) -> None:
        """`closes_calls`: whether a call is closed before `max_tokens` would cut it."""
        self._chat = chat
        self._closes_calls = closes_calls
        self._schemas = SchemaCache()
        self._texts = TextGrammars()
        self._competition = Competition(time.monotonic)
        self._quick = FairThreads(2, "schemas")
        self._large = FairThreads(1, "schemas-large")
        self._quick_places = Places(MAX_WAITING, "schemas are waiting to be read")
        self._large_places = Places(MAX_LARGE, "large schemas are waiting to be read")

    async def build(
        self, wish: OutputFormat, conversation: Conversation | None, whose: tuple[int, int] = (0, 1)
    ) -> Constraint:
        """`conversation`: None for a raw prompt, which has no tools and no reasoning. `whose`: the tenant's
        number and weight.

        Raises InvalidRequest for a wish that contradicts itself or a schema that is wrong or too large, and
        UnsupportedValue, naming keyword and place, for what cannot be enforced where it must be. Overloaded
        where too many are waiting, or too many of the tenant's.
        """
        self._competition.note(whose[0])
        tools = () if conversation is None else conversation.tools
        if (wish.must_call or wish.allowed_tools) and not tools:
            raise InvalidRequest(f"{wish.names_param} needs tools", wish.names_param)
        if (not tools or wish.tool_choice == "none") and wish.answer is None:
            return _FREE
        with contextlib.suppress(InvalidRequest), self._quick_places.taken(whose):
            build = functools.partial(self._build, wish, conversation, Effort.QUICK)
            return await asyncio.wrap_future(self._quick.submit(build, whose))
        with self._large_places.taken(whose):
            build = functools.partial(self._build, wish, conversation, Effort.WHOLE)
            return await asyncio.wrap_future(self._large.submit(build, whose))

    def close(self) -> None:
        """Idempotent."""
        self._quick.close()
        self._large.close()

    def _build(self, wish: OutputFormat, conversation: Conversation | None, effort: Effort) -> Constraint:
        meter = WorkMeter(effort.value, effort, Rests(lambda: self._competition.goes_on).take)
        bound = wish.must_call
        tools = self._tools(wish, conversation.tools if conversation is not None else (), meter)
        section = answer = ""
        if not tools and wish.answer is None:
            return Constraint()
        if tools and conversation is not None:
            single = not wish.parallel or wish.tool_choice == "function"
            grammars = [ToolGrammar(name, ready.schema) for name, ready in tools.items()]
            first_index = self._chat.next_call_index(conversation)
            section = self._chat.section_rules(grammars, first_index, 1 if single else MAX_CALLS)
        if wish.answer is not None and not bound:
            answer = self._answer(wish.answer, meter)
        return Constraint(
            decode_pb2.Constraint(
                grammar=whole_grammar(section, answer),
                in_reasoning=conversation is not None and self._chat.starts_in_reasoning(conversation),
                has_section=bool(section),
                waits_for_section=not bound and not answer,
                closes_calls=self._closes_calls,
            ),
            CallChecks(
                {name: ready.validator for name, ready in tools.items() if ready.validator is not None}
            ),
            {name: ready.findings[0].keyword if ready.findings else "" for name, ready in tools.items()},
        )

    def _tools(self, wish: OutputFormat, tools: Sequence[Json], meter: WorkMeter) -> dict[str, ReadySchema]:
        """The functions that may be called, by name."""
        if wish.tool_choice == "none":
            return {}
        named = wish.tool_choice == "function"
        ready: dict[str, ReadySchema] = {}
        declared: set[str] = set()
        if len(tools) > MAX_TOOLS:
            raise InvalidRequest(f"{len(tools)} tools; {MAX_TOOLS} at most", wish.tools_param)
        for index, tool in enumerate(tools):
            param = f"{wish.tools_param}[{index}]{wish.function_path}"
            function = tool.get("function") if isinstance(tool, dict) else None
            if not isinstance(function, dict):
                continue  # a tool of another type: declared, never called
            name = _name(function, param, declared)
            declared.add(name)
            if (not named or wish.tool_name == name) and wish.may_call(name):
                strict = wish.tool_choice != "auto" or function.get("strict") is True
                ready[name] = self._arguments(function, param + wish.parameters_path, strict, meter)
        if unknown := sorted((wish.allowed_tools or frozenset()) - declared):
            raise InvalidRequest(f"no function {unknown[0]!r} is among the tools", wish.names_param)
        if not ready and wish.tool_choice != "auto":
            wanted = f" {wish.tool_name!r}" if named else ""
            raise InvalidRequest(f"no function{wanted} is among the tools", wish.names_param)
        return ready

    def _arguments(
        self, function: dict[str, Json], param: str, strict: bool, meter: WorkMeter
    ) -> ReadySchema:
        schema = as_arguments(function.get("parameters"), param)
        ready = self._schemas.ready(schema, param, meter, declared_order=True)
        if strict:
            _require_enforceable(ready, param)
        return ready

    def _answer(self, answer: Answer, meter: WorkMeter) -> str:
        if isinstance(answer, JsonAnswer):
            ready = self._schemas.ready(answer.schema, answer.param, meter, declared_order=False)
            _require_enforceable(ready, answer.param)
            return json_grammar(ready.schema)
        if isinstance(answer, RegexAnswer):
            return self._texts.of_regex(answer.regex, answer.param, meter.effort)
        return self._texts.of_gbnf(answer.ebnf, answer.param, meter.effort)


def _name(function: dict[str, Json], param: str, taken: Set[str]) -> str:
    name = function.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS:
        raise InvalidRequest(f"{param}.name has 1 to {MAX_NAME_CHARACTERS} characters", f"{param}.name")
    if name != name.strip() or any(unicodedata.category(character) == "Cc" for character in name):
        raise InvalidRequest(
            f"{param}.name: {name!r} has white space at an end, or a control character", f"{param}.name"
        )
    if name in taken:
        raise InvalidRequest(f"{param}.name: {name!r} is another function's name too", f"{param}.name")
    return name


def _require_enforceable(ready: ReadySchema, param: str) -> None:
    for finding in ready.findings:
        place = f"{param}{finding.path}"
        raise UnsupportedValue(f"{place}: {finding.keyword} cannot be enforced: {finding.why}", place)
