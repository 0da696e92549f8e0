"""Token counts of prompts, with the published tokenizer over a tiny random checkpoint."""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.families.kimi.chat.golden import chat_body, expected_ids, read_vectors, verbatim
from tests.gateway.pictures import data_url, picture
from tests.support.stack import Stack
from tests.vision.tiny_checkpoint import CONFIG, write_checkpoint

MEDIA_PAD = 163_605
# Larger images take the encoder seconds: one of the largest stands for them. All of them are counted in
# tests/gateway/http/test_tokenize_golden.py.
MOST_TOKENS = 800
LARGEST = (3000, 3000)
TEXT = {"vocab_size": 163_840, "max_position_embeddings": 65_536, "num_hidden_layers": 2}
PARALLEL = 8


@pytest.fixture(scope="module")
def tokenizer(shared_dir: Path) -> Path:
    """The directory of the published files."""
    return shared_dir / "data" / "kimi-k2.5"


@pytest.fixture(scope="module")
def published(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All four processes, serving tiny random weights over the whole vocabulary."""
    model = tmp_path_factory.mktemp("kimi-tiny")
    for name in ("tiktoken.model", "tokenizer_config.json"):
        (model / name).symlink_to(tokenizer / name)
    text = CONFIG["text_config"] | TEXT
    write_checkpoint(model, CONFIG | {"media_placeholder_token_id": MEDIA_PAD, "text_config": text})
    # Testing which products are stable takes long for so large a vocabulary, and no count depends on it.
    quick = {"PERIGEE_DETERMINISTIC": "false"}
    with Stack(model, tmp_path_factory.mktemp("logs"), environment=quick) as stack:
        stack.start()
        yield stack


def post(stack: Stack, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        stack.base_url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def prompt_tokens(stack: Stack, body: dict[str, Any]) -> tuple[int, int]:
    """Prompt tokens as the usage of a chat reports them, and as /tokenize counts them."""
    usage = post(stack, "/v1/chat/completions", {**body, "max_tokens": 1})["usage"]
    return usage["prompt_tokens"], post(stack, "/tokenize", body)["count"]


def conversations(shared_dir: Path) -> list[dict[str, Any]]:
    """The golden conversations that a chat request can have: a message, and the assistant's turn next."""
    return [
        vector
        for vector in read_vectors(shared_dir, "chat_template.jsonl")
        if verbatim(vector) and vector["input"]["messages"] and vector["input"]["add_generation_prompt"]
    ]


def test_the_prompt_tokens_of_every_text_are_the_golden_count(published, shared_dir, fidelity):
    texts = [vector for vector in conversations(shared_dir) if MEDIA_PAD not in expected_ids(vector)]
    assert len(texts) > 100
    with ThreadPoolExecutor(PARALLEL) as pool:
        used = pool.map(lambda vector: prompt_tokens(published, chat_body(vector)), texts)
        for vector, counts in zip(texts, used, strict=True):
            assert counts == (len(expected_ids(vector)),) * 2, vector["id"]
    fidelity.equal(
        "Prompt tokens in usage", "text, through REST and all workers", "golden vectors", len(texts)
    )


def test_the_prompt_tokens_of_images_are_those_of_their_golden_sizes(published, shared_dir, fidelity):
    vectors = [vector for vector in conversations(shared_dir) if MEDIA_PAD in expected_ids(vector)]
    sizes = golden_sizes(shared_dir)
    assert len(vectors) >= 10
    assert len(sizes) >= 50
    requests = []
    unused, more_vectors = list(sizes), itertools.cycle(vectors)
    while unused or len(requests) < len(vectors):
        vector = next(more_vectors)
        number = expected_ids(vector).count(MEDIA_PAD)
        taken = (unused or sizes)[:number]
        taken += sizes[: number - len(taken)]
        unused = unused[number:]
        expected = len(expected_ids(vector)) + sum(tokens - 1 for _, tokens in taken)
        urls = [data_url(picture(width, height)) for (width, height), _ in taken]
        requests.append((chat_body(vector, urls), expected))
    with ThreadPoolExecutor(PARALLEL) as pool:
        used = pool.map(lambda request: prompt_tokens(published, request[0]), requests)
        for (_, expected), counts in zip(requests, used, strict=True):
            assert counts == (expected, expected)
    what = "text and images, through REST and all workers"
    fidelity.equal("Prompt tokens in usage", what, "golden vectors", len(requests))


def golden_sizes(shared_dir: Path) -> list[tuple[tuple[int, int], int]]:
    """((width, height), tokens) of images that the encoder processes quickly, and of one of the largest."""
    found = []
    for vector in read_vectors(shared_dir, "image_preprocess.jsonl"):
        if vector["kind"] == "image_size":
            size = (vector["input"]["width"], vector["input"]["height"])
            tokens = vector["expected"]["num_tokens"]
            if tokens <= MOST_TOKENS or size == LARGEST:
                found.append((size, tokens))
    return found


def test_a_gateway_of_the_tokenizer_alone_starts_and_counts(tokenizer, tmp_path):
    flags = {"tokenizer": tokenizer, "model": "", "vision": "", "prefill": "", "decode": ""}
    stack = Stack(tokenizer, tmp_path, {"gateway": flags})
    with stack:
        stack.start("gateway")
        made = post(stack, "/tokenize", {"prompt": "<|im_end|>", "parse_special": True})
        assert (made["tokens"], made["max_model_len"]) == ([163_586], None)
        assert stack.stop() == {"gateway": 0}
