"""Tool calls, from the tokens of their ids and arguments."""

from __future__ import annotations

import msgspec

from services.families.kimi.output.fitting_tool import fitting_tool
from services.families.kimi.output.function_name import function_name
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.output import CallRules, FinishedCall


class TokenList:
    """Tokens whose text is wanted at the end only."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []

    def feed(self, token_id: int) -> bool:
        """No stop string is looked for in what becomes a call."""
        self.token_ids.append(token_id)
        return False


class CallReader:
    """The calls of one answer. Feed `call_id` and `arguments` between `begin` and `end`.

    Their ids are `functions.NAME:IDX`, IDX counted over the conversation.

    A call is released when it is finished and never changes afterwards. Its arguments are trimmed, and `{}`
    where there are none. Not released, and not counted in any id:

    - a call of a tool that is not declared, or that the check refuses;
    - one without a name, unless its arguments fit exactly one declared tool;
    - one without its end marker, unless something else ended it and its arguments are a whole JSON object.

    All but refused ones, which the check counts, are reported to `on_drop`.
    """

    def __init__(self, tokenizer: KimiTokenizer, rules: CallRules) -> None:
        self._tokenizer = tokenizer
        self._rules = rules
        self._finished: list[FinishedCall] = []
        self.call_id = TokenList()
        self.arguments = TokenList()
        self.count = 0

    def begin(self) -> None:
        """A call begins."""
        self.call_id.token_ids.clear()
        self.arguments.token_ids.clear()

    def end(self, *, closed: bool) -> None:
        """The arguments are over; `closed`: by the end marker. Raises what the check raises."""
        arguments = self._text(self.arguments)
        if not closed and not _is_object(arguments):
            self.drop()
            return
        arguments = arguments or "{}"
        name = self._name(arguments)
        if name not in self._rules.tools:
            self._rules.on_drop("no_tool")
            return
        if not self._rules.accept(name, arguments):
            return
        call_id = f"functions.{name}:{self._rules.first_index + self.count}"
        self._finished.append(FinishedCall(self.count, call_id, name, arguments))
        self.count += 1

    def drop(self) -> None:
        """The call that has begun is none."""
        self._rules.on_drop("malformed")

    def take(self) -> tuple[FinishedCall, ...]:
        """The calls that were finished since the last time."""
        if not self._finished:
            return ()
        finished, self._finished = self._finished, []
        return tuple(finished)

    def _name(self, arguments: str) -> str:
        name = function_name(self._text(self.call_id), self._rules.tools)
        if name in self._rules.tools or (name and not name.isdecimal()):
            return name
        return fitting_tool(arguments, self._rules.schemas)

    def _text(self, tokens: TokenList) -> str:
        return self._tokenizer.decode(tokens.token_ids, skip_flagged=True).strip()


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError):
        return False
