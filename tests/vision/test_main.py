"""Building a vision worker."""

from __future__ import annotations

import pytest

from services.common.errors import ConfigError
from services.vision.config import VisionConfig
from services.vision.main import build_vision_worker


async def test_more_embedding_pages_than_memory_are_refused_with_what_fits(nano_dir):
    config = VisionConfig(model=str(nano_dir), embedding_pages=2**31 - 1, device="cpu")
    with pytest.raises(
        ConfigError, match=r"^embedding_pages: 2,147,483,647 pages .* at most [\d,]+ fit into"
    ):
        await build_vision_worker(config, on_fatal=lambda error: None)
