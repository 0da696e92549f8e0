"""A request as every door hands it to the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from perigee.v1 import sampling_pb2
from services.common.sampling.params import FieldName
from services.families.conversation import Conversation
from services.gateway.constraint.output_format import OutputFormat
from services.gateway.media.request_media import MediaSource


@dataclass(frozen=True)
class ChatPrompt:
    """A conversation for the model's template. `media`: one per image or video part, in order. `unreasoned`:
    indices of the assistant's messages with calls for which the caller gave no reasoning, not even an empty
    one.
    """

    conversation: Conversation
    media: tuple[MediaSource, ...] = ()
    unreasoned: frozenset[int] = frozenset()


@dataclass(frozen=True)
class TextPrompt:
    """Plain text; special-token strings in it are ordinary text unless `parse_special`."""

    text: str
    parse_special: bool = False


@dataclass(frozen=True)
class TokenPrompt:
    """Token ids, taken as they are."""

    token_ids: tuple[int, ...]


AnyPrompt: TypeAlias = ChatPrompt | TextPrompt | TokenPrompt


@dataclass(frozen=True)
class PromptLogprobs:
    """Which log-probabilities of the prompt are wanted: those of its tokens from `first` on, each with its
    `top` likeliest alternatives. `first_param`, `param`: the fields that say so.
    """

    first: int
    top: int
    first_param: str
    param: str

    def count(self, num_tokens: int) -> int:
        """How many that are in a prompt of so many tokens, alternatives included."""
        return (num_tokens - self.first) * (1 + self.top)


@dataclass(frozen=True)
class GenerationRequest:
    """A prompt with everything that decides its continuation.

    `field_name` spells a sampling control as the door's caller does; `prompt_param` is the field the prompt
    came in; `timeout_s` is the caller's own deadline, in seconds from now, if it has one; `output`: the form
    of the answer; `prompt_logprobs`: None: none are wanted. For a chat: `separate_reasoning`: whether
    reasoning is separated from content; `stream_reasoning`: whether it streams, or comes in one piece when it
    ends.
    """

    model: str
    prompt: AnyPrompt
    sampling: sampling_pb2.SamplingParams
    field_name: FieldName
    prompt_param: str
    cache_salt: str = ""
    priority: int = 0
    timeout_s: float | None = None
    separate_reasoning: bool = True
    stream_reasoning: bool = True
    output: OutputFormat = field(default_factory=OutputFormat)
    prompt_logprobs: PromptLogprobs | None = None

    @property
    def choices(self) -> int:
        """How many continuations are wanted."""
        return self.sampling.n or 1
