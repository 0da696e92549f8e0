"""A model family without its weights: what the gateway and the grammars of answers need."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from services.families.conversation import Conversation, Json
from services.families.grammar import GrammarTokens, ToolGrammar
from services.families.media import MediaArithmetic
from services.families.model_profile import ModelProfile, SuggestProfile
from services.families.output import OutputParser, OutputRules
from services.families.prompt import RenderedPrompt
from services.families.tokenizer import Tokenizer


@dataclass(frozen=True)
class ModelLimits:
    """Tokens: the longest prompt plus completion, and the size of the vocabulary with its unused ids."""

    context_length: int
    vocab_size: int


class ChatFormat(Protocol):
    """How a family writes conversations and reads answers, with one checkpoint's tokenizer. Any thread."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's."""

    @property
    def takes_tools(self) -> bool:
        """Whether the template declares tools and the model calls them; without, the methods about tools are
        never called.
        """

    @property
    def markers_per_message(self) -> int:
        """How many special tokens every message takes in a prompt, at least."""

    def render(self, conversation: Conversation) -> RenderedPrompt:
        """The prompt, with one media pad per image or chunk of video. Text of callers forges no markers.

        Raises InvalidRequest for a conversation that the template cannot write.
        """

    def template_variables(self, tools: Sequence[Json]) -> Mapping[str, Json]:
        """Returns what a checkpoint's own template is given for an OpenAI `tools` array."""

    def starts_in_reasoning(self, conversation: Conversation) -> bool:
        """Whether the answer to the rendered conversation begins inside reasoning."""

    def parser(
        self, stop: Sequence[str], rules: OutputRules | None, hidden: Container[int] | None = None
    ) -> OutputParser:
        """Takes one answer apart. `stop`: stop strings; `rules` None: all is content, whatever the markers;
        `hidden`: ids that give no text, by default the tokenizer's flagged ones.
        """

    def declared_names(self, tools: Sequence[Json]) -> frozenset[str]:
        """The names that the model knows the functions of an OpenAI `tools` array by."""

    def next_call_index(self, conversation: Conversation) -> int:
        """The number that the next call gets in its id."""

    def section_rules(self, tools: Sequence[ToolGrammar], first_index: int, max_calls: int) -> str:
        """The rules of a section of 1 to `max_calls` calls, numbered from `first_index`, in llguidance's
        dialect of Lark. The rule `section` is the whole.
        """


@dataclass(frozen=True)
class Family:
    """All of these raise CheckpointError that lists what is wrong with the files.

    `read_limits`: from the parsed config.json; KeyError names a key that is missing, TypeError and ValueError
    report a value of the wrong kind. `open_chat`: from a directory with the tokenizer's files, and so
    `read_grammar_tokens`, for the grammars of answers. `profiles`: the published models that share the
    family, one or more. `media`: None: the model sees neither images nor videos. `suggest_profile`: None: the
    first profile is always meant.
    """

    read_limits: Callable[[Mapping[str, Any]], ModelLimits]
    open_chat: Callable[[Path], ChatFormat]
    read_grammar_tokens: Callable[[Path], GrammarTokens]
    profiles: tuple[ModelProfile, ...]
    media: MediaArithmetic | None = None
    suggest_profile: SuggestProfile | None = None
