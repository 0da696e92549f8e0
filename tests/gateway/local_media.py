"""Media that come with the request; nothing is fetched."""

from __future__ import annotations

import httpcore

from services.common.video_file import VideoLimits
from services.gateway.download.allowed_hosts import AllowedHosts
from services.gateway.download.downloader import Downloader
from services.gateway.pipeline.images import ImageLimits
from services.gateway.pipeline.media import MediaLimits
from services.gateway.pipeline.remote_media import RemoteMedia
from services.gateway.pipeline.videos import VideoBounds

LIMITS = MediaLimits(ImageLimits(1, 1, 1), VideoBounds(1, 1, VideoLimits(1, 1, 1.0)))


def local_media() -> RemoteMedia:
    return RemoteMedia(Downloader(AllowedHosts(""), 1.0, httpcore.AnyIOBackend()), LIMITS, 1)
