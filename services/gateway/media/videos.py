"""Videos of a request: from their spelling to bytes, a content hash and the chunks in the prompt."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from services.common.errors import InvalidRequest
from services.common.media.video_file import VideoLimits, read_header
from services.families.media import MediaArithmetic, chunk_hash
from services.gateway.media.data_url import decode_url


@dataclass(frozen=True)
class VideoSource:
    """A video as the caller gave it: the file's bytes or a `data:` URL; `param` is the field it came in."""

    source: bytes | str
    param: str


@dataclass(frozen=True)
class VideoBounds:
    """Most videos in a request, bytes of one file, and what its header may say."""

    count: int
    num_bytes: int
    header: VideoLimits


@dataclass(frozen=True)
class VideoFile:
    """A file whose packets are counted. `content_hash`: SHA-256 of it."""

    data: bytes
    content_hash: bytes
    param: str


@dataclass(frozen=True)
class PromptChunk:
    """A chunk of a video: a medium of its own. `content_hash`: the chunk's; `timestamp`: in the prompt."""

    video: VideoFile
    content_hash: bytes
    num_tokens: int
    timestamp: str


def load_video(
    source: VideoSource, bounds: VideoBounds, arithmetic: MediaArithmetic
) -> tuple[PromptChunk, ...]:
    """Counts the frames of one video; the vision worker alone decodes them. Call it in a thread.

    Raises InvalidRequest or UnsupportedValue naming the video's field.
    """
    data = source.source if isinstance(source.source, bytes) else decode_url(source.source, source.param)
    if len(data) > bounds.num_bytes:
        raise InvalidRequest(
            f"the video has {len(data)} bytes; at most {bounds.num_bytes} are taken", source.param
        )
    try:
        header = read_header(data, bounds.header)
        chunks = arithmetic.video_chunks(header.width, header.height, header.num_frames, header.fps)
    except InvalidRequest as error:
        raise InvalidRequest(error.message, source.param) from error
    video = VideoFile(data, hashlib.sha256(data).digest(), source.param)
    return tuple(
        PromptChunk(video, chunk_hash(video.content_hash, index), chunk.grid.num_tokens, chunk.timestamp)
        for index, chunk in enumerate(chunks)
    )
