"""The gateway process, from start to stop."""

import asyncio
import socket

import pytest

from services.common.errors import CheckpointError, ConfigError
from services.families.kimi.tokenizer import Tokenizer
from services.gateway.config import GatewayConfig
from services.gateway.main import serve
from tests.gateway.suite import NANO, checkpoint


@pytest.fixture
def model(tmp_path):
    return str(checkpoint(tmp_path, Tokenizer.from_dir(NANO)))


def taken():
    """A port somebody listens on."""
    holder = socket.create_server(("127.0.0.1", 0))
    return holder, holder.getsockname()[1]


async def test_it_serves_until_told_to_stop_even_without_workers(model):
    stop = asyncio.Event()
    serving = asyncio.create_task(
        serve(GatewayConfig(model=model, http_port=0, grpc_port=0, operator_port=0), stop)
    )
    await asyncio.sleep(0.3)
    assert not serving.done()
    stop.set()
    await asyncio.wait_for(serving, 5)


@pytest.mark.parametrize("door", ["http", "grpc", "operator"])
async def test_a_taken_port_is_named_with_its_flag(model, door):
    holder, port = taken()
    ports = {"http_port": 0, "grpc_port": 0, "operator_port": 0, f"{door}_port": port}
    with holder, pytest.raises(ConfigError, match=f"{port}.*--{door}-port"):
        await serve(GatewayConfig(model=model, **ports), asyncio.Event())


@pytest.mark.parametrize("missing", ["config.json", "tiktoken.model", "tokenizer_config.json"])
async def test_a_checkpoint_without_what_is_needed_is_refused_by_file(tmp_path, missing):
    model = checkpoint(tmp_path, Tokenizer.from_dir(NANO))
    (model / missing).unlink()
    with pytest.raises(CheckpointError, match=missing):
        await serve(
            GatewayConfig(model=str(model), http_port=0, grpc_port=0, operator_port=0), asyncio.Event()
        )
