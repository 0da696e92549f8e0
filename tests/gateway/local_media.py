"""Media that come with the request; nothing is fetched."""

from __future__ import annotations

import httpcore

from services.common.media.video_file import VideoLimits
from services.gateway.media.download.allowed_hosts import AllowedHosts
from services.gateway.media.download.downloader import Downloader
from services.gateway.media.images import ImageLimits
from services.gateway.media.remote_media import RemoteMedia
from services.gateway.media.request_media import MediaLimits
from services.gateway.media.videos import VideoBounds

LIMITS = MediaLimits(ImageLimits(1, 1, 1), VideoBounds(1, 1, VideoLimits(1, 1, 1.0)))


def local_media() -> RemoteMedia:
    return RemoteMedia(Downloader(AllowedHosts(""), 1.0, httpcore.AnyIOBackend()), LIMITS, 1)
