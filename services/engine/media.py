"""The encoded media of a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from perigee.v1 import vision_pb2
from services.common.errors import InvalidRequest
from services.common.page_hash import MediaSpan


@dataclass(frozen=True)
class Medium:
    """An encoded image in a prompt: its pads are tokens [offset, offset + num_tokens)."""

    content_hash: bytes
    offset: int
    num_tokens: int
    address: str
    incarnation: str

    @property
    def end(self) -> int:
        """One past its last pad."""
        return self.offset + self.num_tokens

    def to_proto(self) -> vision_pb2.MediaRef:
        """The medium as a message."""
        return vision_pb2.MediaRef(
            content_hash=self.content_hash,
            token_offset=self.offset,
            num_tokens=self.num_tokens,
            address=self.address,
            incarnation=self.incarnation,
        )


def media_from_proto(refs: Iterable[vision_pb2.MediaRef], num_prompt_tokens: int) -> tuple[Medium, ...]:
    """The media of a prompt in order; raises InvalidRequest if they overlap or leave the prompt."""
    media = tuple(
        Medium(bytes(ref.content_hash), ref.token_offset, ref.num_tokens, ref.address, ref.incarnation)
        for ref in refs
    )
    end = 0
    for index, medium in enumerate(media):
        if medium.offset < end or medium.num_tokens < 1 or medium.end > num_prompt_tokens:
            raise InvalidRequest(
                f"media[{index}] covers tokens {medium.offset}..{medium.end} of {num_prompt_tokens}; media "
                "must be in order, apart and inside the prompt",
                f"media[{index}]",
            )
        if len(medium.content_hash) != 32:
            raise InvalidRequest(
                f"media[{index}].content_hash must have 32 bytes", f"media[{index}].content_hash"
            )
        end = medium.end
    return media


def media_spans(media: Sequence[Medium], num_tokens: int) -> list[MediaSpan]:
    """The parts of the media in the first `num_tokens` tokens, for page hashes."""
    return [
        MediaSpan(medium.content_hash, medium.offset, min(medium.end, num_tokens) - medium.offset)
        for medium in media
        if medium.offset < num_tokens
    ]


def media_within(media: Sequence[Medium], start: int, end: int) -> tuple[Medium, ...]:
    """The media with a pad among tokens [start, end)."""
    return tuple(medium for medium in media if medium.offset < end and medium.end > start)


def embeds_within(
    media: Sequence[Medium], embeddings: Mapping[int, torch.Tensor], start: int, end: int
) -> tuple[tuple[int, torch.Tensor], ...]:
    """The rows of the embeddings that replace tokens [start, end), each with its offset from `start`."""
    pieces = []
    for index, medium in enumerate(media):
        first, last = max(start, medium.offset), min(end, medium.end)
        if first < last:
            rows = embeddings[index][first - medium.offset : last - medium.offset]
            pieces.append((first - start, rows))
    return tuple(pieces)
