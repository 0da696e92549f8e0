"""Building a prefill or decode worker."""

from __future__ import annotations

import pytest

from perigee.v1 import worker_pb2
from services.common.errors import ConfigError
from services.common.rpc.endpoints import Endpoints
from services.decode.config import DecodeConfig
from services.engine.serving.text_worker import build_text_worker


async def test_more_staging_blocks_than_memory_are_refused_with_what_fits(nano_dir):
    settings = DecodeConfig(model=str(nano_dir), staging_blocks=2**31 - 1, device="cpu")
    with pytest.raises(ConfigError, match=r"^staging_blocks: 2,147,483,647 pages .* at most [\d,]+ fit into"):
        await build_text_worker(settings, Endpoints("decode"), worker_pb2.WORKER_ROLE_DECODE)
