"""The token accounting of a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from perigee.v1 import decode_pb2, sampling_pb2
from services.gateway.media.images import PromptImage
from services.gateway.media.request_media import PromptMedium


def prompt_usage(submit: decode_pb2.Submit, media: Sequence[PromptMedium]) -> sampling_pb2.Usage:
    """Tokens of the whole prompt, of its images and of its videos; nothing is generated yet."""
    media_tokens = sum(medium.num_tokens for medium in media)
    image_tokens = sum(medium.num_tokens for medium in media if isinstance(medium, PromptImage))
    return sampling_pb2.Usage(
        prompt_tokens=len(submit.prompt_token_ids),
        image_tokens=image_tokens,
        video_tokens=media_tokens - image_tokens,
    )
