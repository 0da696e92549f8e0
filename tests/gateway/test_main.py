"""The gateway process, from start to stop."""

import asyncio
import json
import socket

import pytest
import structlog

from services.common.errors import CheckpointError, ConfigError
from services.families.kimi.tokenizer import KimiTokenizer
from services.gateway.config import GatewayConfig
from services.gateway.main import serve
from tests.gateway.suite import NANO, checkpoint
from tests.support.endpoints import ENDPOINTS
from tests.support.waiting import until


@pytest.fixture
def model(tmp_path):
    return str(checkpoint(tmp_path, KimiTokenizer.from_dir(NANO)))


def taken():
    """A port somebody listens on."""
    holder = socket.create_server(("127.0.0.1", 0))
    return holder, holder.getsockname()[1]


async def test_it_serves_until_told_to_stop_even_without_workers(model):
    stop = asyncio.Event()
    config = GatewayConfig(model=model, http_port=0, grpc_port=0, operator_port=0)
    with structlog.testing.capture_logs() as lines:
        serving = asyncio.create_task(serve(config, ENDPOINTS, stop))
        await until(lambda: any(line["event"] == "gateway ready" for line in lines), 30)
        assert not serving.done()
        stop.set()
        await asyncio.wait_for(serving, 30)


@pytest.mark.parametrize("door", ["http", "grpc", "operator"])
async def test_a_taken_port_is_named_with_its_flag(model, door):
    holder, port = taken()
    ports = {"http_port": 0, "grpc_port": 0, "operator_port": 0, f"{door}_port": port}
    with holder, pytest.raises(ConfigError, match=f"{port}.*--{door}-port"):
        await serve(GatewayConfig(model=model, **ports), ENDPOINTS, asyncio.Event())


@pytest.mark.parametrize("missing", ["config.json", "tiktoken.model", "tokenizer_config.json"])
async def test_a_checkpoint_without_what_is_needed_is_refused_by_file(tmp_path, missing):
    model = checkpoint(tmp_path, KimiTokenizer.from_dir(NANO))
    (model / missing).unlink()
    with pytest.raises(CheckpointError, match=missing):
        await serve(
            GatewayConfig(model=str(model), http_port=0, grpc_port=0, operator_port=0),
            ENDPOINTS,
            asyncio.Event(),
        )


async def test_a_checkpoint_of_no_family_is_refused_with_those_that_are_served(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "dodo"}')
    with pytest.raises(CheckpointError, match=r"config\.json: model_type is 'dodo'; served: kimi_k25$"):
        await serve(GatewayConfig(model=str(tmp_path)), ENDPOINTS, asyncio.Event())


@pytest.mark.parametrize(
    "text", [None, 5, {"max_position_embeddings": None, "vocab_size": 9}, {"max_position_embeddings": "far"}]
)
async def test_a_configuration_with_limits_of_the_wrong_kind_is_refused_by_file(tmp_path, text):
    model = checkpoint(tmp_path, KimiTokenizer.from_dir(NANO))
    (model / "config.json").write_text(json.dumps({"model_type": "kimi_k25", "text_config": text}))
    with pytest.raises(CheckpointError, match=r"config\.json: no context length or vocabulary size"):
        await serve(GatewayConfig(model=str(model)), ENDPOINTS, asyncio.Event())
