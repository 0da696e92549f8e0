"""The next turn of a conversation computes only what lies outside whole cached pages, wherever these are."""

from __future__ import annotations

from pathlib import Path

import pytest

from perigee.v1 import generation_pb2, generation_pb2_grpc, sampling_pb2, worker_pb2, worker_pb2_grpc
from services.engine.model.architectures import load_config
from tests.support.decode_client import DecodeClient, Outcome
from tests.support.prompts import random_prompt
from tests.support.reference_loop import ReferenceLoop
from tests.support.stack import Stack

PAGE = 64
FLAGS = {"prefill": {"kv_pages": 256, "checksum_fraction": 1.0}, "decode": {"kv_pages": 256}}
FIRST = 200
GENERATED = 150
SUFFIX = 200
ANSWERED = 24


@pytest.fixture(scope="module")
def page_bytes(nano_dir: Path) -> int:
    """Bytes of one page of all layers, float32."""
    text = load_config(nano_dir).text
    return text.num_hidden_layers * PAGE * text.kv_width * 4


def flush(workers: Stack, role: str) -> int:
    with workers.channel(role) as channel:
        return worker_pb2_grpc.WorkerServiceStub(channel).Flush(worker_pb2.FlushRequest()).pages


def read_by_prefill(workers: Stack) -> int:
    return workers.counter("prefill", "perigee_kv_transfer_bytes_total")


def turn(
    workers: Stack, client: DecodeClient, prompt: list[int], num_tokens: int, source: str | None = None
) -> Outcome:
    """One greedy turn; `source`: the address that the decode worker gets as its own, by default the
    real one.
    """
    own = workers.address("decode") if source is None else source
    outcome = client.generate(prompt, num_tokens, [workers.address("prefill")], own_address=own)
    assert outcome.error is None, outcome.error
    return outcome


def second_prompt(workers: Stack, client: DecodeClient, seed: str) -> list[int]:
    """The prompt and answer of a first turn, and a suffix."""
    prompt = random_prompt(FIRST, seed)
    answer = turn(workers, client, prompt, GENERATED).tokens[0]
    assert len(answer) == GENERATED
    return [*prompt, *answer, *random_prompt(SUFFIX, f"{seed} suffix")]


def check_quiet(workers: Stack) -> None:
    workers.wait_until_free(1.0, ("prefill", "decode"))
    for role in ("prefill", "decode"):
        assert workers.counter(role, "perigee_integrity_failures_total") == 0


def test_pages_of_generated_tokens_are_read_from_decode_and_not_computed_again(
    workers, decode_client, reference: ReferenceLoop, page_bytes
):
    prompt = second_prompt(workers, decode_client, "turns")
    known = (FIRST + GENERATED - 1) // PAGE
    at_prefill = (FIRST - 1) // PAGE
    assert known - at_prefill >= 2
    before = read_by_prefill(workers)
    outcome = turn(workers, decode_client, prompt, ANSWERED)
    # Cached tokens are the prompt's minus those that prefill reports as computed.
    assert (outcome.stats.cached_tokens, outcome.stats.prefill_cached_tokens) == (known * PAGE, 0)
    assert read_by_prefill(workers) - before == (known - at_prefill) * page_bytes
    pages = -(-(len(prompt) - 1) // PAGE)
    assert outcome.stats.transfer_bytes == (pages - known) * page_bytes, "decode reads what it lacks, once"
    assert outcome.tokens[0] == reference.greedy(prompt, ANSWERED)
    check_quiet(workers)


def test_a_prefill_worker_that_lost_everything_reads_all_of_it_from_decode(
    workers, decode_client, reference: ReferenceLoop, page_bytes
):
    prompt = second_prompt(workers, decode_client, "flushed")
    assert flush(workers, "prefill") > 0
    known = (FIRST + GENERATED - 1) // PAGE
    before = read_by_prefill(workers)
    outcome = turn(workers, decode_client, prompt, ANSWERED)
    assert (outcome.stats.cached_tokens, outcome.stats.prefill_cached_tokens) == (known * PAGE, 0)
    assert read_by_prefill(workers) - before == known * page_bytes
    assert outcome.tokens[0] == reference.greedy(prompt, ANSWERED)
    flush(workers, "decode")
    again = turn(workers, decode_client, prompt, ANSWERED)
    assert again.stats.prefill_cached_tokens == (len(prompt) - 1) // PAGE * PAGE, "prefill has them now"
    assert again.tokens == outcome.tokens, "what prefill read is what it gives"
    check_quiet(workers)


def test_usage_counts_the_whole_cached_pages_of_a_conversation(suite: Stack, page_bytes):
    sampling = sampling_pb2.SamplingParams(temperature=0, max_tokens=GENERATED, ignore_eos=True)
    with suite.channel() as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)

        def usage_and_ids(prompt: list[int]) -> tuple[generation_pb2.GenerateResponse, list[int]]:
            token_ids = generation_pb2.TokenIds(ids=prompt)
            request = generation_pb2.GenerateRequest(token_ids=token_ids, sampling=sampling)
            response = stub.Generate(request, timeout=120)
            return response, list(response.choices[0].token_ids)

        prompt = random_prompt(FIRST, "through the gateway")
        first, answer = usage_and_ids(prompt)
        before = read_by_prefill(suite)
        second, _ = usage_and_ids([*prompt, *answer, *random_prompt(SUFFIX, "gateway suffix")])
    known = (FIRST + GENERATED - 1) // PAGE
    assert (first.usage.cached_tokens, second.usage.cached_tokens) == (0, known * PAGE)
    assert read_by_prefill(suite) - before == (known - (FIRST - 1) // PAGE) * page_bytes


@pytest.mark.parametrize("source", ["", "127.0.0.1:1"], ids=["unknown", "wrong"])
def test_where_decode_cannot_be_read_its_pages_are_computed_again_and_not_called_cached(
    workers, decode_client, reference: ReferenceLoop, source
):
    prompt = second_prompt(workers, decode_client, f"unreachable {source}")
    before = read_by_prefill(workers)
    outcome = turn(workers, decode_client, prompt, ANSWERED, source)
    at_prefill = (FIRST - 1) // PAGE * PAGE
    assert (outcome.stats.cached_tokens, outcome.stats.prefill_cached_tokens) == (at_prefill, 0)
    assert read_by_prefill(workers) == before
    assert outcome.tokens[0] == reference.greedy(prompt, ANSWERED)
    check_quiet(workers)
