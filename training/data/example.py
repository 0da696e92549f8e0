"""A sample as the token ids that the served model sees, and which of them it is trained to say."""

from __future__ import annotations

import json
from dataclasses import dataclass

from services.common.kimi.tokenizer import Tokenizer
from services.gateway.chat.call_ids import count_calls
from services.gateway.chat.messages import ImagePart
from services.gateway.chat.prompt import expand_media, render
from services.gateway.chat.segments import Segment, SegmentWriter, encode_segments
from training.data.picture import Picture, read_picture
from training.skills.sample import Sample


@dataclass(frozen=True)
class Example:
    """`token_ids`: prompt and answer; the answer begins at `answer_start` and ends with `<|im_end|>`.
    `pictures`: those of the media pads, in order.
    """

    skill: str
    token_ids: tuple[int, ...]
    answer_start: int
    pictures: tuple[Picture, ...] = ()


def encode_sample(sample: Sample, tokenizer: Tokenizer) -> Example:
    """The prompt comes out of the gateway's template, the answer out of `answer_segments`."""
    parts = (part for message in sample.conversation.messages for part in message.content)
    pictures = tuple(read_picture(part.data) for part in parts if isinstance(part, ImagePart))
    rendered = render(sample.conversation, tokenizer)
    prompt, _ = expand_media(rendered, [picture.num_tokens for picture in pictures])
    answer = encode_segments(answer_segments(sample), tokenizer)
    return Example(sample.skill, (*prompt, *answer), len(prompt), pictures)


def answer_segments(sample: Sample) -> tuple[Segment, ...]:
    """What the model says behind the generation prompt: with thinking that ended in an open `<think>`."""
    writer = SegmentWriter()
    if sample.conversation.thinking:
        writer.text(sample.reasoning)
        writer.marker("end_think")
    writer.text(sample.answer)
    if sample.calls:
        writer.marker("tool_calls_section_begin")
        for index, call in enumerate(sample.calls, start=count_calls(sample.conversation)):
            writer.marker("tool_call_begin")
            writer.text(f"functions.{call.name}:{index}")
            writer.marker("tool_call_argument_begin")
            writer.text(json.dumps(call.arguments, ensure_ascii=False))
            writer.marker("tool_call_end")
        writer.marker("tool_calls_section_end")
    writer.marker("im_end")
    return writer.finish()
