"""Workers with pages in a format other than that of their weights."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from services.engine.batch import PAGE_TOKENS
from services.engine.kv_cache.kv_format import BFLOAT16
from tests.support.decode_client import DecodeClient
from tests.support.reference_loop import ReferenceLoop
from tests.support.stack import Stack

FLAGS = {
    "prefill": {"kv_format": "bfloat16", "checksum_fraction": 1.0},
    "decode": {"kv_format": "bfloat16", "tp": 2},
}
NUM_TOKENS = 24
# Transfers move bytes regardless of their format, so one transport is enough.
pytestmark = pytest.mark.parametrize("transport", ["default"], indirect=True)


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    draw = random.Random(37)
    return [[draw.randrange(2048) for _ in range(length)] for length in (1, 64, 65, 200, 700)]


@pytest.fixture(scope="module")
def narrow_reference(nano_dir: Path) -> ReferenceLoop:
    """A plain loop with float32 weights over bfloat16 pages."""
    return ReferenceLoop(nano_dir, BFLOAT16)


def test_float32_weights_over_bfloat16_pages_give_the_tokens_of_a_plain_loop(
    workers, decode_client, narrow_reference, prompts
):
    for prompt in prompts:
        outcome = decode_client.generate(prompt, NUM_TOKENS, [workers.address("prefill")])
        assert outcome.error is None
        assert outcome.tokens[0] == narrow_reference.greedy(prompt, NUM_TOKENS)
        text = narrow_reference.model.config
        page_bytes = PAGE_TOKENS * BFLOAT16.bytes_per_token(text.num_hidden_layers, text.kv_width)
        assert outcome.stats.transfer_bytes == -(-(len(prompt) - 1) // PAGE_TOKENS) * page_bytes


def test_a_request_over_workers_of_different_formats_fails_with_a_sentence_that_names_both(
    nano_dir, tmp_path, transport, prompts
):
    with Stack(nano_dir, tmp_path, {"prefill": {"kv_format": "bfloat16"}}) as stack:
        stack.start("prefill", "decode")
        with stack.channel("decode") as channel:
            outcome = DecodeClient(channel).generate(prompts[-1], NUM_TOKENS, [stack.address("prefill")])
    assert outcome.error.reason == "INCOMPATIBLE"
    assert outcome.error.message.endswith(
        "KV format (--kv-format, by default that of --dtype): bfloat16 here, float32 at the reader"
    )
