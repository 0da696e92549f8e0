"""Building a prefill or decode worker."""

from __future__ import annotations

from multiprocessing import active_children

import pytest
from torch import distributed

from perigee.v1 import worker_pb2
from services.common.errors import ConfigError, TransferFailed
from services.common.rpc.endpoints import Endpoints
from services.decode.config import DecodeConfig
from services.engine.kv_transfer.transfer_thread import TransferThread
from services.engine.serving import text_worker
from services.engine.serving.process_exit import GONE_S
from services.engine.serving.text_worker import build_text_worker


async def test_more_staging_blocks_than_memory_are_refused_with_what_fits(nano_dir):
    settings = DecodeConfig(model=str(nano_dir), staging_blocks=2**31 - 1, device="cpu")
    with pytest.raises(ConfigError, match=r"^staging_blocks: 2,147,483,647 pages .* at most [\d,]+ fit into"):
        await build_text_worker(settings, Endpoints("decode"), worker_pb2.WORKER_ROLE_DECODE)


async def test_a_worker_that_cannot_start_ends_its_other_ranks_and_is_gone_in_time(nano_dir, monkeypatch):
    limits: list[float] = []

    def refuse(thread: TransferThread) -> None:
        raise TransferFailed("there is no transport")

    monkeypatch.setattr(text_worker, "exit_within", limits.append)
    monkeypatch.setattr(TransferThread, "start", refuse)
    before = active_children()
    settings = DecodeConfig(model=str(nano_dir), tp=2, kv_pages=8, device="cpu")
    with pytest.raises(TransferFailed, match="there is no transport"):
        await build_text_worker(settings, Endpoints("decode"), worker_pb2.WORKER_ROLE_DECODE)
    assert [child for child in active_children() if child not in before] == []
    assert not distributed.is_initialized()
    assert limits == [GONE_S]
