"""KV moves between processes while it is computed, and only what the reader lacks."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from perigee.v1 import decode_pb2, worker_pb2, worker_pb2_grpc
from services.engine.model.architectures import load_config
from tests.support.decode_client import DecodeClient
from tests.support.prompts import random_prompt
from tests.support.stack import Stack

CHUNK = 512
PAGE = 64
SKIPPED = 16
"""Uncached tokens up to which decode computes a prompt itself."""
FLAGS = {
    "prefill": {"kv_pages": 256, "chunk_tokens": CHUNK, "layers_per_group": 1, "checksum_fraction": 1.0},
    "decode": {"kv_pages": 512, "local_prefill_tokens": SKIPPED},
}


@pytest.fixture(scope="module")
def layers(nano_dir: Path) -> int:
    return load_config(nano_dir).text.num_hidden_layers


@pytest.fixture(scope="module")
def layer_page_bytes(nano_dir: Path) -> int:
    """Bytes of one layer page, float32."""
    text = load_config(nano_dir).text
    assert text.kv_width == 576
    return PAGE * 576 * 4


def stats_of(
    workers: Stack, decode_client: DecodeClient, prompt: list[int], salt: str
) -> decode_pb2.RequestStats:
    outcome = decode_client.generate(prompt, 4, [workers.address("prefill")], salt=salt)
    assert len(outcome.tokens.get(0, ())) == 4, f"{outcome}; the session: {decode_client.failure}"
    return outcome.stats


def flush_decode(workers: Stack) -> None:
    with workers.channel("decode") as channel:
        worker_pb2_grpc.WorkerServiceStub(channel).Flush(worker_pb2.FlushRequest())


def test_most_bytes_are_read_before_prefill_ends_and_the_tail_is_the_last_group(
    workers, decode_client, layers, layer_page_bytes
):
    num_tokens = 2000
    prompt = random_prompt(num_tokens, "overlap")
    total = -(-(num_tokens - 1) // PAGE) * layers * layer_page_bytes
    last_group = -(-((num_tokens - 1) % CHUNK) // PAGE) * layer_page_bytes
    shares, tails = [], []
    for run in range(3):
        stats = stats_of(workers, decode_client, prompt, f"run {run}")
        assert stats.transfer_bytes == total
        shares.append(stats.transfer_bytes_before_done / total)
        tails.append(total - stats.transfer_bytes_before_done)
        print(
            f"{total / 1e6:.1f} MB, {shares[-1]:.1%} before prefill was done, "
            f"then {tails[-1] / last_group:.2f} last groups in {stats.transfer_tail_seconds * 1e3:.1f} ms"
        )
    assert statistics.median(shares) >= 0.7
    assert statistics.median(tails) <= 1.5 * last_group


@pytest.mark.parametrize("num_tokens", [1, 2, 17, 18, 64, 65, 66, 129, 500, 1025])
def test_only_pages_that_decode_lacks_are_read(workers, decode_client, layers, layer_page_bytes, num_tokens):
    page_bytes = layers * layer_page_bytes
    prompt = random_prompt(num_tokens, "bytes")
    counted = workers.counter("decode", "perigee_kv_transfer_bytes_total")
    first = stats_of(workers, decode_client, prompt, "once")
    computed = num_tokens - 1
    pages = -(-computed // PAGE) if computed > SKIPPED else 0
    assert first.transfer_bytes == pages * page_bytes
    assert first.prefill_address == (workers.address("prefill") if pages else "")
    again = stats_of(workers, decode_client, prompt, "once")
    if num_tokens % PAGE:
        assert again.cached_tokens == computed, "the last page, which is not whole, too"
        assert again.transfer_bytes == 0
    else:
        assert again.cached_tokens == computed // PAGE * PAGE, "the answer has made the last page whole"
        assert again.transfer_bytes == page_bytes
    flush_decode(workers)
    anew = stats_of(workers, decode_client, prompt, "once")
    assert anew.transfer_bytes == pages * page_bytes
    assert anew.prefill_cached_tokens == (computed // PAGE * PAGE if pages else 0)
    total = first.transfer_bytes + again.transfer_bytes + anew.transfer_bytes
    assert workers.counter("decode", "perigee_kv_transfer_bytes_total") - counted == total


def test_a_longer_prompt_reads_only_what_follows_its_cached_prefix(
    workers, decode_client, layers, layer_page_bytes
):
    start = random_prompt(400, "prefix")
    stats_of(workers, decode_client, start, "prefix")
    stats = stats_of(workers, decode_client, start + random_prompt(300, "suffix"), "prefix")
    assert stats.cached_tokens == 384
    assert stats.transfer_bytes == (-(-699 // PAGE) - 384 // PAGE) * layers * layer_page_bytes
