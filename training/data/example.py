"""A sample as the token ids that the served model sees, and which of them it is trained to say."""

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
    """`answers`: what is trained, [start, end) of `token_ids`: the assistant's earlier turns and the answer
    to the last question, each with its `<|im_end|>`. `pictures`: those of the media pads, in order.
    """

    skill: str
    token_ids: tuple[int, ...]
    answers: tuple[tuple[int, int], ...]
    pictures: tuple[Picture, ...] = ()

    @property
    def answer_start(self) -> int:
        """Where the last answer begins."""
        return self.answers[-1][0]

    def last_answer(self) -> Example:
        """The same with nothing but the last answer as what is to be said."""
        return replace(self, answers=self.answers[-1:])


def encode_sample(sample: Sample, tokenizer: KimiTokenizer) -> Example:
    """The prompt comes out of the gateway's template, the answer out of `answer_segments`."""
    parts = (part for message in sample.conversation.messages for part in message.content)
    pictures = tuple(read_picture(part.data) for part in parts if isinstance(part, ImagePart))
    rendered = render(sample.conversation, tokenizer)
    prompt, _ = expand_media(rendered, [picture.num_tokens for picture in pictures])
    answer = encode_segments(answer_segments(sample), tokenizer)
    answers = (*_earlier_answers(prompt, tokenizer.special), (len(prompt), len(prompt) + len(answer)))
    return Example(sample.skill, (*prompt, *answer), answers, pictures)


def answer_segments(sample: Sample) -> tuple[Segment, ...]:
    """What the model says behind the generation prompt: with thinking that ended in an open `<think>`."""
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
    """The assistant's turns of a prompt, from where the model would have gone on: inside of `<think>` where
    the template has kept the reasoning, and behind `</think>` where there is none, as in instant mode.
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
