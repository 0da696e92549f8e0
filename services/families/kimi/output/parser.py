"""The parser of the model's output: token ids in, the parts of an OpenAI message out."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Protocol

from services.families.kimi.output.calls import CallReader
from services.families.kimi.output.states import THINK_MARKS, Mark, State, marks_of, next_state
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.output import CallRules, OutputRules, Piece, TextKind
from services.families.text.text_lane import TextLane


class _Sink(Protocol):
    def feed(self, token_id: int) -> bool: ...


class KimiParser:
    """An OutputParser. In the message is

    - reasoning: up to the first `</think>` or tool section, whichever marker comes first, streamed or not: a
      section that the model drafts before `</think>` ends the reasoning and makes calls;
    - content: up to the first tool section, or a call whose section's begin is missing, white space as it is;
    - calls: those of streamed tools from the marker before their arguments on, so that a cut one is left
      unfinished; others when their end marker has come, whole, so that a cut one is no part of the message.

    Between the section's begin and its first call, between calls, and behind the section, text is dropped; a
    second section goes on with the calls. A marker where it has no meaning is dropped, and never text. Stop
    strings are looked for in the content behind the reasoning, and nowhere else, also where the reasoning is
    shown as content. `rules` None: all is content, whatever the markers.
    """

    def __init__(
        self,
        tokenizer: KimiTokenizer,
        stop: Sequence[str],
        rules: OutputRules | None,
        hidden: Container[int] | None = None,
    ) -> None:
        """`hidden`: ids that give no text, by default those flagged special."""
        self._rules = rules or OutputRules(in_reasoning=False, calls=None)
        self._marks: Mapping[int, Mark] = {}
        if rules is not None:
            self._marks = marks_of(tokenizer.special, calls=rules.calls is not None)
        self._calls = CallReader(tokenizer, self._rules.calls or CallRules())
        self._stop = stop
        self._content = TextLane(tokenizer, (), hidden)
        self._reasoning = self._content
        if self._rules.separate_reasoning:
            self._reasoning = TextLane(tokenizer, (), hidden)
        self._sinks: Mapping[State, _Sink] = {
            State.REASONING: self._reasoning,
            State.CONTENT: self._content,
            State.SECTION: _Dropped(),
            State.CALL_ID: self._calls.call_id,
            State.ARGUMENTS: self._calls,
        }
        self._state = State.REASONING if self._rules.in_reasoning else State.CONTENT
        self._sink = self._sinks[self._state]
        self._ended = False
        self.reasoning_tokens = 0
        if self._state is State.CONTENT:
            self._content.watch(stop)

    @property
    def num_calls(self) -> int:
        return self._calls.count

    @property
    def is_unfinished(self) -> bool:
        return self._calls.is_unfinished

    @property
    def text_kind(self) -> TextKind | None:
        if self._sink is self._content:
            return TextKind.CONTENT
        return TextKind.REASONING if self._sink is self._reasoning else None

    @property
    def matched_stop(self) -> str:
        return self._content.matched_stop

    @property
    def num_characters(self) -> int:
        own = self._content.num_characters
        return own if self._reasoning is self._content else own + self._reasoning.num_characters

    @property
    def inside(self) -> bool:
        return self._content.inside or self._reasoning.inside

    def feed(self, token_id: int) -> bool:
        mark = self._marks.get(token_id)
        if mark is not None:
            self._ended = self._turn(mark, token_id)
            return self._ended
        if self._state is State.REASONING:
            self.reasoning_tokens += 1
        if self._sink.feed(token_id):
            self._ended = True
        return self._ended

    @property
    def plain(self) -> TextKind | None:
        if self._state is State.CONTENT:
            return TextKind.CONTENT if self._content.free else None
        if self._state is not State.REASONING or self._reasoning is self._content or self._holds_reasoning():
            return None
        return TextKind.REASONING if self._reasoning.free else None

    def count_plain(self) -> None:
        if self._state is State.REASONING:
            self.reasoning_tokens += 1

    def end(self, *, by_model: bool) -> bool:
        # A last call that only lacks its end marker counts where the model ended.
        self._ended = True
        if self._state is State.ARGUMENTS:
            if by_model:
                self._calls.end(closed=False)
            else:
                self._calls.cut()
        if by_model and self._state is State.CALL_ID:
            self._calls.drop()
        return self._end_text(self._state)

    def take(self) -> Piece:
        reasoning = ""
        if self._reasoning is not self._content and not self._holds_reasoning():
            reasoning = self._reasoning.take()
        return Piece(reasoning, self._content.take(), self._calls.take())

    def _turn(self, mark: Mark, token_id: int) -> bool:
        """Takes a marker; True if it completed a stop string."""
        before = self._state
        if before is State.REASONING and mark is not Mark.SECTION_BEGIN:
            self.reasoning_tokens += 1
        after = next_state(before, mark, calls=self._rules.calls is not None)
        self._state, self._sink = after, self._sinks[after]
        if self._sink is not self._sinks[before]:
            if self._end_text(before):
                return True
            if before is State.ARGUMENTS:
                self._calls.end(closed=mark is Mark.CALL_END)
            if before is State.CALL_ID:
                if after is State.ARGUMENTS:
                    self._calls.begin_arguments()
                else:
                    self._calls.drop()
        if mark is Mark.CALL_BEGIN and after is State.CALL_ID:
            self._calls.begin()
        stopped = self._is_text(mark) and self._sink.feed(token_id)
        if before is State.REASONING and after is State.CONTENT:
            self._content.watch(self._stop)
        return stopped

    def _is_text(self, mark: Mark) -> bool:
        """Whether a marker is shown where it leads to, because what it marks is not taken apart."""
        if self._state not in (State.REASONING, State.CONTENT):
            return False
        return not self._rules.separate_reasoning if mark in THINK_MARKS else self._rules.calls is None

    def _end_text(self, state: State) -> bool:
        if state is State.REASONING:
            return self._reasoning.end()
        return state is State.CONTENT and self._content.end()

    def _holds_reasoning(self) -> bool:
        return self._state is State.REASONING and not (self._rules.stream_reasoning or self._ended)


class _Dropped:
    """Text that is no part of the message."""

    def feed(self, token_id: int) -> bool:
        return False
