"""A sample as the token ids that the served model gets, with the tokens that it is trained to generate."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from services.families.conversation import ImagePart
from services.families.kimi.chat.prompt import render
from services.families.kimi.chat.segments import Segment, SegmentWriter, encode_segments
from services.families.kimi.special import SpecialTokens
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.prompt import expand_media
from training.data.picture import Picture, read_picture
from training.skills.sample import Sample


@dataclass(frozen=True)
class Example:
    """A tokenised sample.

    `answers` lists the trained ranges [start, end) of `token_ids`: the assistant's earlier turns and the
    answer to the last question, each with its `<|im_end|>`. `pictures` lists the pictures of the media pads,
    in order.
    """

    skill: str
    token_ids: tuple[int, ...]
    answers: tuple[tuple[int, int], ...]
    pictures: tuple[Picture, ...] = ()

    @property
    def answer_start(self) -> int:
        """Index of the last answer's first token."""
        return self.answers[-1][0]

    def last_answer(self) -> Example:
        """A copy in which only the last answer is trained."""
        return replace(self, answers=self.answers[-1:])


def encode_sample(sample: Sample, tokenizer: KimiTokenizer) -> Example:
    """Tokenises a sample: the gateway's template renders the prompt, `answer_segments` the answer."""
    parts = (part for message in sample.conversation.messages for part in message.content)
    pictures = tuple(read_picture(part.data) for part in parts if isinstance(part, ImagePart))
    rendered = render(sample.conversation, tokenizer)
    prompt, _ = expand_media(rendered, [picture.num_tokens for picture in pictures])
    answer = encode_segments(answer_segments(sample), tokenizer)
    answers = (*_earlier_answers(prompt, tokenizer.special), (len(prompt), len(prompt) + len(answer)))
    return Example(sample.skill, (*prompt, *answer), answers, pictures)


def answer_segments(sample: Sample) -> tuple[Segment, ...]:
    """The segments that the model generates after the generation prompt, which ends in an open `<think>` in
    thinking mode.
    """
    writer = SegmentWriter()
    if sample.conversation.thinking:
        writer.text(sample.reasoning)
        writer.marker("end_think")
    writer.text(sample.answer)
    if sample.calls:
        writer.marker("tool_calls_section_begin")
        for index, call in enumerate(sample.calls, start=sample.conversation.num_calls):
            writer.marker("tool_call_begin")
            writer.text(f"functions.{call.name}:{index}")
            writer.marker("tool_call_argument_begin")
            writer.text(json.dumps(call.arguments, ensure_ascii=False))
            writer.marker("tool_call_end")
        writer.marker("tool_calls_section_end")
    writer.marker("im_end")
    return writer.finish()


def _earlier_answers(prompt: Sequence[int], special: SpecialTokens) -> Iterator[tuple[int, int]]:
    """Ranges of the assistant's turns in a prompt. A range starts where generation would have started: inside
    `<think>` if the template kept the reasoning, and after `</think>` if there is none, as in instant mode.
    """
    start = 0
    while special.im_assistant in prompt[start:]:
        middle = prompt.index(special.im_middle, prompt.index(special.im_assistant, start))
        if special.im_end not in prompt[middle:]:
            return
        end = prompt.index(special.im_end, middle) + 1
        start = middle + (3 if prompt[middle + 2] == special.end_think else 2)
        yield start, end
        start = end
