"""Holds back the calls that have to be checked, until they are whole."""

from __future__ import annotations

from collections.abc import Callable

from perigee.v1 import decode_pb2
from services.common.errors import InvalidToolCall
from services.common.kimi.tokenizer import Tokenizer
from services.gateway.chat.constraint.call_checks import CallChecks


class CallGate:
    """Stands between the tokens of one request and whoever makes text of them.

    What it holds back of a choice comes with the delta that ends its call, or the choice. Where nothing has
    to be checked, it holds back nothing.
    """

    def __init__(self, tokenizer: Tokenizer, checks: CallChecks, on_refused: Callable[[], None]) -> None:
        """`on_refused` is called for each call that is refused."""
        self._tokenizer = tokenizer
        self._checks = checks
        self._on_refused = on_refused
        self._held: dict[int, decode_pb2.SequenceDelta] = {}
        self._calls: dict[int, list[int]] = {}

    def release(self, delta: decode_pb2.SequenceDelta) -> decode_pb2.SequenceDelta:
        """The delta, with all of its choice that may be shown now, perhaps without any token.

        Raises InvalidToolCall where a call ends that is not valid.
        """
        if not self._checks:
            return delta
        for token_id in delta.token_ids:
            self._follow(delta.choice, token_id)
        held = self._held.pop(delta.choice, None)
        if held is not None:
            held.MergeFrom(delta)
            delta = held
        if delta.choice not in self._calls or delta.finish_reason:
            return delta
        self._held[delta.choice] = delta
        return decode_pb2.SequenceDelta(handle=delta.handle, choice=delta.choice)

    def _follow(self, choice: int, token_id: int) -> None:
        special = self._tokenizer.special
        if token_id == special.tool_call_begin:
            self._calls[choice] = []
        elif choice in self._calls:
            if token_id == special.tool_call_end:
                self._check(self._calls.pop(choice))
            else:
                self._calls[choice].append(token_id)

    def _check(self, token_ids: list[int]) -> None:
        """`token_ids`: of a call, between its markers."""
        marker = self._tokenizer.special.tool_call_argument_begin
        place = token_ids.index(marker) if marker in token_ids else len(token_ids)
        name = self._tokenizer.decode(token_ids[:place]).strip().rpartition(":")[0].removeprefix("functions.")
        complaint = self._checks.complaint(name, self._tokenizer.decode(token_ids[place + 1 :]))
        if complaint:
            self._on_refused()
            raise InvalidToolCall(f"the model's call of {name} is not valid: {complaint}")
