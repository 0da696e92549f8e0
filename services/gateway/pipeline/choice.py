"""One choice's tokens to text: split into reasoning and content, detokenized, watched for stop strings."""

from __future__ import annotations

from perigee.v1 import decode_pb2, sampling_pb2
from services.common.kimi.tokenizer import Tokenizer
from services.gateway.chat.detokenizer import Detokenizer
from services.gateway.chat.reasoning import Channel, ReasoningSplitter
from services.gateway.chat.stop import StopMatcher
from services.gateway.pipeline.events import ChoiceDelta
from services.gateway.sampling import SamplingOptions

_STOP = sampling_pb2.FINISH_REASON_STOP


class _Lane:
    """The text of one channel. Stop strings are looked for in each channel by itself."""

    def __init__(self, tokenizer: Tokenizer, options: SamplingOptions) -> None:
        hidden = tokenizer.flagged_ids if options.skip_special_tokens else ()
        self._detokenizer = Detokenizer(tokenizer, hidden)
        self._matcher = StopMatcher(options.stop)

    def feed(self, token_id: int) -> tuple[str, bool]:
        """The text that is certain now, and whether a stop string ended it."""
        return self._matcher.feed(self._detokenizer.feed(token_id))

    def flush(self) -> tuple[str, bool]:
        """What was held back, at the end of the channel."""
        text, stopped = self._matcher.feed(self._detokenizer.flush())
        return (text, True) if stopped else (text + self._matcher.flush(), False)


class ChoiceDecoder:
    """Fed with one choice's deltas in order; `finished` once it ended or met a stop string.

    `completion_tokens` counts every token up to the end, the one that ended it included; `reasoning_tokens`
    those before the content, `</think>` included.
    """

    def __init__(
        self, tokenizer: Tokenizer, index: int, options: SamplingOptions, *, chat: bool, thinking: bool
    ) -> None:
        self._tokenizer = tokenizer
        self._index = index
        self._ends = set(options.stop_token_ids) | (set() if options.ignore_eos else tokenizer.stop_ids)
        self._splitter = ReasoningSplitter(tokenizer.special, thinking=thinking) if chat else None
        self._lanes = {channel: _Lane(tokenizer, options) for channel in Channel}
        self._channel = self._splitter.channel if self._splitter else Channel.CONTENT
        self.finished = False
        self.completion_tokens = 0
        self.reasoning_tokens = 0

    def feed(self, delta: decode_pb2.SequenceDelta) -> ChoiceDelta | None:
        """The news in a delta, tokens after a stop string dropped; None where a chat has nothing to show."""
        texts: dict[Channel, list[str]] = {channel: [] for channel in Channel}
        used = 0
        for token_id in delta.token_ids:
            used += 1
            ends = delta.finish_reason == _STOP and used == len(delta.token_ids) and token_id in self._ends
            if not ends and self._take(token_id, texts):
                self.finished = True
                break
        finish = _STOP if self.finished else delta.finish_reason
        if delta.finish_reason and not self.finished:
            finish = _STOP if self._flush(self._channel, texts) else delta.finish_reason
            self.finished = True
        self.completion_tokens += used
        news = ChoiceDelta(
            index=self._index,
            token_ids=tuple(delta.token_ids[:used]),
            reasoning="".join(texts[Channel.REASONING]),
            content="".join(texts[Channel.CONTENT]),
            logprobs=tuple(self._name(position) for position in delta.logprobs[:used]),
            finish_reason=finish,
        )
        return None if news.silent and self._splitter is not None else news

    def _take(self, token_id: int, texts: dict[Channel, list[str]]) -> bool:
        """Adds one token's text; True if it completed a stop string."""
        before = self._channel
        lane: Channel | None = Channel.CONTENT
        if self._splitter is not None:
            lane = self._splitter.feed(token_id)
            self._channel = self._splitter.channel
        if before is Channel.REASONING and lane is not Channel.CONTENT:
            self.reasoning_tokens += 1
        if self._channel is not before and self._flush(before, texts):
            return True
        if lane is None:
            return False
        text, stopped = self._lanes[lane].feed(token_id)
        texts[lane].append(text)
        return stopped

    def _flush(self, channel: Channel, texts: dict[Channel, list[str]]) -> bool:
        """Adds what a channel held back, at its end."""
        text, stopped = self._lanes[channel].flush()
        texts[channel].append(text)
        return stopped

    def _name(self, position: sampling_pb2.PositionLogprobs) -> sampling_pb2.PositionLogprobs:
        """The same position with every token's bytes and text filled in."""
        for token in (position.sampled, *position.top):
            token.token_bytes = self._tokenizer.token_bytes(token.token_id)
            token.token = token.token_bytes.decode(errors="replace")
        return position
