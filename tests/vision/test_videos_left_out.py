"""A vision worker installed without the extra `video`."""

from __future__ import annotations

import pytest

from perigee.v1 import vision_pb2
from services.common.errors import UnsupportedValue
from services.common.media import video_file
from services.vision.server import VisionServicer


async def test_a_video_is_refused_before_its_bytes_are_looked_at(monkeypatch):
    monkeypatch.setattr(video_file, "av", None)
    servicer = VisionServicer(None, None, None, None, "vision-1", 1000)
    request = vision_pb2.EncodeVideoRequest(video=b"no video at all", content_hash=b"not its hash")
    with pytest.raises(UnsupportedValue, match=r"^this vision worker .* perigee\[video\]$") as caught:
        await servicer.EncodeVideo(request, None)
    assert caught.value.param == "video"
