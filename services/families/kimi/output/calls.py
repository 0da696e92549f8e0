"""Tool calls, from the tokens of their ids and arguments."""

from __future__ import annotations

import msgspec

from services.families.kimi.output.argument_text import ArgumentText
from services.families.kimi.output.fitting_tool import fitting_tool
from services.families.kimi.output.function_name import function_name
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.output import CallPiece, CallRules


class TokenList:
    """Tokens whose text is wanted at the end only."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []

    def feed(self, token_id: int) -> bool:
        """No stop string is looked for in what becomes a call."""
        self.token_ids.append(token_id)
        return False


class CallReader:
    """The calls of one answer. Feed `call_id` after `begin`, and the reader itself after `begin_arguments`.

    Their ids are `functions.NAME:IDX`, IDX counted over the conversation. Their arguments are trimmed, and
    `{}` where there are none.

    A call of a streamed tool is shown when its arguments begin, and these as they come; it stays unfinished
    where it is cut, or where something else than its end marker ends it before its arguments are an object.
    Any other call is shown when it is finished. Not shown, and not counted in any id:

    - a call of a tool that is not declared, or that the check refuses;
    - one without a name, unless its arguments fit exactly one declared tool;
    - one without its end marker, unless something else ended it and its arguments are a whole JSON object.

    All but refused ones, which the check counts, are reported to `on_drop`.
    """

    def __init__(self, tokenizer: KimiTokenizer, rules: CallRules) -> None:
        self._tokenizer = tokenizer
        self._rules = rules
        self._news: list[CallPiece] = []
        self._arguments = ArgumentText(tokenizer)
        self._streams = False
        self.call_id = TokenList()
        self.count = 0
        self.is_unfinished = False

    def begin(self) -> None:
        """A call begins."""
        self.call_id.token_ids.clear()

    def begin_arguments(self) -> None:
        """The call's id is over. Shows the call if its tool is streamed."""
        self._arguments = ArgumentText(self._tokenizer)
        name = function_name(self._id_text(), self._rules.tools)
        self._streams = name in self._rules.streamed
        if self._streams:
            self._show(name)

    def feed(self, token_id: int) -> bool:
        """Takes a token of the arguments; False, as in `TokenList`."""
        return self._arguments.feed(token_id)

    def end(self, *, closed: bool) -> None:
        """The arguments are over; `closed`: by the end marker. Raises what the check raises."""
        self._arguments.end()
        arguments = self._arguments.whole
        whole = closed or _is_object(arguments)
        if self._streams:
            self.is_unfinished = self.is_unfinished or not whole
            self._add_arguments("" if arguments or not whole else "{}")
        elif whole:
            self._release(arguments or "{}")
        else:
            self.drop()
        self._streams = False

    def cut(self) -> None:
        """The output was cut within the arguments."""
        self.is_unfinished = self.is_unfinished or self._streams

    def drop(self) -> None:
        """The call that has begun is none."""
        self._rules.on_drop("malformed")

    def take(self) -> tuple[CallPiece, ...]:
        """What is new of calls since the last time."""
        if self._streams:
            self._add_arguments()
        if not self._news:
            return ()
        news, self._news = self._news, []
        return tuple(news)

    def _release(self, arguments: str) -> None:
        """Shows a call that was held, if it may be."""
        name = self._name(arguments)
        if name not in self._rules.tools:
            self._rules.on_drop("no_tool")
        elif self._rules.accept(name, arguments):
            self._show(name)
            self._news.append(CallPiece(self.count - 1, arguments=arguments))

    def _show(self, name: str) -> None:
        call_id = f"functions.{name}:{self._rules.first_index + self.count}"
        self._news.append(CallPiece(self.count, call_id, name))
        self.count += 1
        self._rules.on_show(name)

    def _add_arguments(self, end: str = "") -> None:
        if text := self._arguments.take() + end:
            self._news.append(CallPiece(self.count - 1, arguments=text))

    def _name(self, arguments: str) -> str:
        name = function_name(self._id_text(), self._rules.tools)
        if name in self._rules.tools or (name and not name.isdecimal()):
            return name
        return fitting_tool(arguments, self._rules.schemas)

    def _id_text(self) -> str:
        return self._tokenizer.decode(self.call_id.token_ids, skip_flagged=True).strip()


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError):
        return False
