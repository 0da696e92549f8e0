"""A family that the product does not know, found by the entry points of its package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from perigee.v1 import sampling_pb2
from services.common.errors import CheckpointError, UnsupportedValue
from services.engine.loading.text import load_text_model
from services.engine.loading.vision import load_vision_model
from services.engine.model.architectures import ARCHITECTURES, load_config
from services.engine.model.text_layer import TextLayer
from services.engine.weights.headers import read_headers
from services.families.conversation import Conversation, ImagePart, Message, TextPart, ToolCall
from services.families.registry import FAMILIES, family_in
from services.gateway.media.images import ImageSource
from services.gateway.pipeline.prompt.limits import RequestRules, check_request
from services.gateway.pipeline.prompt.rendering import Renderer
from services.gateway.pipeline.request import ChatPrompt, GenerationRequest
from services.gateway.served_model import ServedModel
from tests.families.tern.checkpoint import CONFIG, SITE, write_checkpoint
from tests.gateway.local_media import local_media

RULES = RequestRules(10, 10, 1000, "none")
HI = Message("user", (TextPart("Hi"),))


@pytest.fixture(scope="module", autouse=True)
def _installed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SITE)
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, _installed: None) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tern") / "model")


@pytest.fixture
def served(checkpoint: Path) -> ServedModel:
    return ServedModel.from_dir(checkpoint, (), vision=True)


def request(prompt: ChatPrompt) -> GenerationRequest:
    return GenerationRequest("", prompt, sampling_pb2.SamplingParams(), lambda name: name, "messages")


def test_both_tables_know_it_once_its_package_is_there():
    assert FAMILIES.names == ARCHITECTURES.names == {"kimi_k25", "tern"}


def test_a_flat_configuration_is_read_and_every_complaint_is_named(checkpoint, tmp_path):
    config = load_config(checkpoint)
    assert (config.text.hidden_size, config.text.max_position_embeddings, config.vision) == (48, 2048, None)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"wingspan": 0, "layers": None}))
    with pytest.raises(CheckpointError, match=r"wingspan must be an integer .*; layers is missing"):
        load_config(tmp_path)


def test_its_tensors_have_its_prefix_and_its_layers_are_its_own(checkpoint):
    assert {name.split(".")[0] for name in read_headers(checkpoint)} == {"bird"}
    model = load_text_model(checkpoint, deterministic=True)
    assert {type(layer).__name__ for layer in model.layers} == {"TernLayer"}
    assert TextLayer not in map(type, model.layers)
    assert not model.is_compiled


def test_no_vision_worker_serves_it(checkpoint):
    with pytest.raises(CheckpointError, match="model of type tern has no vision part"):
        load_vision_model(checkpoint)


def test_the_gateway_takes_names_limits_and_template_from_the_family(served):
    assert (served.names, served.context_length, served.vocab_size, served.vision) == (
        ("model",),
        2048,
        260,
        False,
    )
    rendered = served.chat.render(Conversation((HI, Message("assistant", (TextPart("{{stop}}"),)), HI)))
    assert rendered.text == "{{you}}Hi{{stop}}{{bird}}{{stop}}{{stop}}{{you}}Hi{{stop}}{{bird}}"
    assert rendered.token_ids.count(served.tokenizer.end_of_turn) == 3


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (ChatPrompt(Conversation((HI,), tools=({"type": "function"},))), "tools"),
        (ChatPrompt(Conversation((Message("assistant", tool_calls=(ToolCall("1", "f"),)), HI))), "messages"),
        (
            ChatPrompt(
                Conversation((Message("user", (ImagePart(b"x"),)),)), (ImageSource(b"x", "messages[0]"),)
            ),
            "messages[0]",
        ),
    ],
)
def test_what_the_model_cannot_do_is_refused_and_the_field_is_named(served, prompt, param):
    with pytest.raises(UnsupportedValue, match="the served model") as caught:
        check_request(request(prompt), served, RULES, served.context_length)
    assert caught.value.param == param


async def test_an_image_is_not_even_counted(served):
    image = Message("user", (ImagePart(b"x"),))
    prompt = ChatPrompt(Conversation((image,)), (ImageSource(b"x", "messages[0]"),))
    with pytest.raises(UnsupportedValue, match="takes no images or videos"):
        await Renderer(served, local_media()).tokenize(prompt)


def test_missing_tokenizer_files_are_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(CheckpointError, match=r"markers\.json"):
        family_in(tmp_path).open_chat(tmp_path)
