"""A gateway of tokenizer files alone: no configuration, no weights, no workers."""

import grpc
import pytest

from perigee.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
)
from services.common.errors import CheckpointError
from services.families.kimi.tokenizer import KimiTokenizer
from services.gateway.config import GatewayConfig
from services.gateway.gateway import Gateway
from tests.gateway.suite import NANO, chat_body
from tests.gateway.tokenizer_alone import open_tokenizer
from tests.support.endpoints import ENDPOINTS


@pytest.fixture
def directory(tmp_path):
    directory = tmp_path / "words"
    directory.mkdir()
    for name in ("tiktoken.model", "tokenizer_config.json"):
        (directory / name).symlink_to(NANO / name)
    return directory


async def test_it_tokenizes_and_detokenizes_over_rest(directory):
    tokenizer = KimiTokenizer.from_dir(NANO)
    async with open_tokenizer(directory) as door:
        made = (await door.http.post("/tokenize", json={"prompt": "Hello there"})).json()
        ids = tokenizer.encode("Hello there")
        assert made == {"tokens": ids, "count": len(ids), "max_model_len": None, "text": "Hello there"}
        back = (await door.http.post("/detokenize", json={"tokens": ids})).json()
        assert back == {"text": "Hello there", "prompt": "Hello there"}
        chat = (await door.http.post("/tokenize", json=chat_body(model="words"))).json()
        assert chat["text"].startswith("<|im_user|>user<|im_middle|>Hi<|im_end|>")


async def test_it_tokenizes_and_detokenizes_over_grpc(directory):
    ids = KimiTokenizer.from_dir(NANO).encode("Hello there")
    async with open_tokenizer(directory) as door:
        stub = generation_pb2_grpc.GenerationServiceStub(door.channel)
        made = await stub.Tokenize(generation_pb2.TokenizeRequest(text="Hello there"))
        assert list(made.token_ids) == ids
        assert (await stub.Detokenize(generation_pb2.DetokenizeRequest(token_ids=ids))).text == "Hello there"


async def test_it_is_healthy_and_says_that_it_has_a_tokenizer_alone(directory):
    async with open_tokenizer(directory) as door:
        for path in ("/health", "/ready"):
            answer = await door.http.get(path)
            assert answer.status_code == 200
            nothing = {"text": False, "images": False, "missing": [], "workers": {}}
            assert answer.json() == {"status": "ok", "tokenizer_only": True, **nothing}
        assert "perigee_requests_total" in (await door.http.get("/metrics")).text


async def test_its_model_is_called_like_the_directory_and_has_no_known_context(directory):
    async with open_tokenizer(directory) as door:
        info = (await door.http.get("/model_info")).json()
        assert (info["model_path"], info["is_generation"]) == (str(directory), False)
        [model] = (await door.http.get("/v1/models")).json()["data"]
        assert (model["id"], model["max_model_len"]) == ("words", None)
        stub = models_pb2_grpc.ModelServiceStub(door.channel)
        model = await stub.GetModel(models_pb2.GetModelRequest())
        assert (model.context_length, model.vocab_size, model.vision) == (0, 2304, False)


async def test_what_needs_workers_is_refused_because_none_are_configured(directory):
    async with open_tokenizer(directory) as door:
        answer = await door.http.post("/v1/chat/completions", json=chat_body())
        assert answer.status_code == 503
        for path, body in (("/v1/completions", {"prompt": "x"}), ("/generate", {"text": "x"})):
            assert (await door.http.post(path, json=body)).status_code == 503
        error = answer.json()["error"]
        assert error["code"] == "unavailable"
        assert "no workers are configured" in error["message"]
        for call in (
            chat_pb2_grpc.ChatServiceStub(door.channel).Complete(chat_pb2.ChatRequest()),
            generation_pb2_grpc.GenerationServiceStub(door.channel).Generate(
                generation_pb2.GenerateRequest(text="x")
            ),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match="no workers are configured") as caught:
                await call
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("missing", ["tiktoken.model", "tokenizer_config.json"])
async def test_a_directory_that_lacks_a_file_is_refused_by_its_name(directory, missing):
    (directory / missing).unlink()
    with pytest.raises(CheckpointError, match=missing):
        Gateway(GatewayConfig(tokenizer=str(directory)), ENDPOINTS)
