"""A reader of embeddings as a process of its own: pairs, leases, reads over NIXL, saves the rows.

`python -m tests.vision.reader_process MODEL ADDRESS INCARNATION CONTENT_HASH NUM_TOKENS OUTPUT`
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import torch

from perigee.v1 import worker_pb2
from services.common.ids import incarnation
from services.engine.kv_transfer.agents.nixl_agent import NixlAgent
from services.engine.kv_transfer.transfer_thread import TransferThread
from services.engine.leases.embedding_reader import ROWS_PER_PAGE, EmbeddingReader
from services.engine.media import Medium
from services.engine.model.architectures import load_config
from services.engine.peers.directory import PeerDirectory
from services.engine.serving.identity import model_identity
from tests.support.endpoints import ENDPOINTS


async def main(
    model: Path, address: str, owner: str, content_hash: bytes, num_tokens: int, out: Path
) -> None:
    config = load_config(model)
    staging = torch.zeros(8, ROWS_PER_PAGE, config.text.hidden_size)
    name = incarnation("prefill")
    transfer = TransferThread(NixlAgent(name), [EmbeddingReader.region(staging)], name)
    transfer.start()
    hello = worker_pb2.ReaderHello(
        incarnation=name, role=worker_pb2.WORKER_ROLE_PREFILL, model=model_identity(model, config, 512)
    )
    peers = PeerDirectory(hello, transfer, ENDPOINTS)
    reader = EmbeddingReader(peers, transfer, staging)
    rows = await reader.fetch(Medium(content_hash, 0, num_tokens, address, owner))
    torch.save(rows, out)
    await peers.close()
    transfer.close()


if __name__ == "__main__":
    model, address, owner, content_hash, num_tokens, out = sys.argv[1:]
    asyncio.run(main(Path(model), address, owner, bytes.fromhex(content_hash), int(num_tokens), Path(out)))
