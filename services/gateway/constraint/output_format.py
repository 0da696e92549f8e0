"""The caller's wishes for the form of an answer; every door converts its own spelling to these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from services.families.conversation import Json

ToolChoice = Literal["auto", "none", "required", "function"]


@dataclass(frozen=True)
class JsonAnswer:
    """The answer is JSON that is valid under `schema`. `param`: the field it came in."""

    schema: Json
    param: str


@dataclass(frozen=True)
class RegexAnswer:
    """The answer matches a regular expression, whole."""

    regex: str
    param: str


@dataclass(frozen=True)
class GrammarAnswer:
    """The answer follows a grammar in GBNF."""

    ebnf: str
    param: str


Answer = JsonAnswer | RegexAnswer | GrammarAnswer


@dataclass(frozen=True)
class OutputFormat:
    """`tool_name`: with the choice "function". `answer`: of an answer that is no call; None: free text.
    `allowed_tools`: the only declared tools that may be called; None: all.

    `parallel`: whether there may be several calls. `choice_param`, `names_param`, `tools_param`: how the door
    spells the choice, the names of tools in it, and the tools; `function_path`, `parameters_path`: what it
    appends for a tool's function, and then for its schema.
    """

    tool_choice: ToolChoice = "auto"
    tool_name: str = ""
    parallel: bool = True
    answer: Answer | None = None
    allowed_tools: frozenset[str] | None = None
    choice_param: str = "tool_choice"
    names_param: str = "tool_choice"
    tools_param: str = "tools"
    function_path: str = ".function"
    parameters_path: str = ".parameters"

    def may_call(self, name: str) -> bool:
        """Whether a declared tool of this name may be called."""
        return self.allowed_tools is None or name in self.allowed_tools

    @property
    def must_call(self) -> bool:
        """Whether the answer is calls and nothing else."""
        return self.tool_choice in ("required", "function")

    @property
    def promises_form(self) -> bool:
        """Whether the answer is calls or has a form, so that it is none where a stop string cuts it."""
        return self.must_call or self.answer is not None
