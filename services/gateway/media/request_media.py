"""Media of a request, images and videos, in order of appearance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from services.common.errors import InvalidRequest
from services.common.media.video_file import check_offered
from services.families.conversation import Conversation, Message, Part, VideoPart
from services.families.media import MediaArithmetic
from services.gateway.media.images import ImageLimits, ImageSource, PromptImage, load_images
from services.gateway.media.videos import (
    PromptChunk,
    VideoBounds,
    VideoSource,
    load_video,
)

MediaSource: TypeAlias = ImageSource | VideoSource
PromptMedium: TypeAlias = PromptImage | PromptChunk


@dataclass(frozen=True)
class MediaLimits:
    """What a request may bring."""

    images: ImageLimits
    videos: VideoBounds


@dataclass(frozen=True)
class LoadedMedia:
    """`media`: one per pad of the prompt; `timestamps`: of each video's chunks, one tuple per video."""

    media: tuple[PromptMedium, ...]
    timestamps: tuple[tuple[str, ...], ...]

    def placed_in(self, conversation: Conversation) -> Conversation:
        """The conversation with its videos' timestamps filled in."""
        timestamps = iter(self.timestamps)
        if not self.timestamps:
            return conversation
        return conversation.with_messages(
            tuple(_with_timestamps(message, timestamps) for message in conversation.messages)
        )


def load_media(
    sources: Sequence[MediaSource], limits: MediaLimits, arithmetic: MediaArithmetic
) -> LoadedMedia:
    """Reads each header. May take long: call it in a thread.

    Raises InvalidRequest or UnsupportedValue naming the medium's field.
    """
    check_sources(sources, limits)
    images = load_images(
        tuple(source for source in sources if isinstance(source, ImageSource)),
        limits.images,
        arithmetic,
    )
    remaining = iter(images)
    media: list[PromptMedium] = []
    timestamps = []
    for source in sources:
        if isinstance(source, ImageSource):
            media.append(next(remaining))
        else:
            chunks = load_video(source, limits.videos, arithmetic)
            media += chunks
            timestamps.append(tuple(chunk.timestamp for chunk in chunks))
    return LoadedMedia(tuple(media), tuple(timestamps))


def check_sources(sources: Sequence[MediaSource], limits: MediaLimits) -> None:
    """Raises InvalidRequest naming the field of the first image or video too many.

    Where this gateway reads no videos, raises UnsupportedValue naming the field of the first one.
    """
    for source in sources:
        if isinstance(source, VideoSource):
            check_offered("this gateway", source.param)
            break
    for name, kind, most in (
        ("images", ImageSource, limits.images.count),
        ("videos", VideoSource, limits.videos.count),
    ):
        given = [source for source in sources if isinstance(source, kind)]
        if len(given) > most:
            raise InvalidRequest(f"at most {most} {name} in a request, {len(given)} given", given[most].param)


def _with_timestamps(message: Message, timestamps: Iterator[tuple[str, ...]]) -> Message:
    def filled(part: Part) -> Part:
        return VideoPart(next(timestamps)) if isinstance(part, VideoPart) else part

    return replace(message, content=tuple(map(filled, message.content)))
