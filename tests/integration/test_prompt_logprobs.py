"""Log-probabilities of prompts, by every door, against a plain forward of the model in this process."""

from __future__ import annotations

import random
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import torch

from perigee.v1 import generation_pb2, generation_pb2_grpc, sampling_pb2
from tests.support.plain_scores import own_logprobs, plain_logprobs
from tests.support.stack import Stack

LENGTHS = [2, 3, 64, 65, 66, 129, 130, 200, 577, 1300]
CLOSE = {"rtol": 0.0, "atol": 2e-6}


def prompt_of(length: int, seed: int = 0) -> list[int]:
    draw = random.Random(length * 1000 + seed)
    return [draw.randrange(2048) for _ in range(length)]


def post(stack: Stack, path: str, body: dict[str, Any]) -> Any:
    answer = httpx.post(f"{stack.base_url}{path}", json=body, timeout=240, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def echoed(stack: Stack, prompt: list[int], max_tokens: int = 1, **fields: Any) -> dict[str, Any]:
    """The lists of an echoed prompt, as lm-eval asks for them."""
    body = {
        "prompt": prompt,
        "echo": True,
        "logprobs": 1,
        "max_tokens": max_tokens,
        "temperature": 0,
        **fields,
    }
    choice = post(stack, "/v1/completions", body)["choices"][0]
    logprobs: dict[str, Any] = choice["logprobs"]
    assert {len(entries) for entries in logprobs.values()} == {len(prompt) + max_tokens}
    return logprobs


@pytest.fixture(scope="module")
def aggregated(nano_dir, tmp_path_factory):
    flags = {"gateway": {"prefill": "", "worker_wait_seconds": 100.0}, "decode": {"aggregated": True}}
    with Stack(nano_dir, tmp_path_factory.mktemp("aggregated"), flags) as stack:
        stack.start("vision", "decode", "gateway")
        yield stack


@pytest.mark.parametrize("length", LENGTHS)
def test_an_echoed_prompt_has_the_log_probabilities_of_a_plain_forward(suite, aggregated, reference, length):
    prompt = prompt_of(length)
    expected = torch.tensor(own_logprobs(reference.model, prompt), dtype=torch.float64)
    found = echoed(suite, prompt)
    assert found["token_logprobs"][0] is None
    assert found["top_logprobs"][0] is None
    own = torch.tensor(found["token_logprobs"][1:length], dtype=torch.float64)
    torch.testing.assert_close(own, expected, **CLOSE)
    assert echoed(suite, prompt) == found, "not the same with cached pages"
    assert echoed(aggregated, prompt) == found, "not the same where decode computes the prompt"
    without = echoed(suite, prompt, max_tokens=0)
    assert all(without[key] == entries[:length] for key, entries in found.items())


def test_a_prompt_has_the_bits_that_its_tokens_had_when_they_were_generated(suite):
    prompt = prompt_of(70)
    body = {"prompt": prompt, "logprobs": 3, "max_tokens": 100, "temperature": 0, "ignore_eos": True}
    generated = post(suite, "/generate", {
        "input_ids": prompt, "return_logprob": True, "top_logprobs_num": 3,
        "sampling_params": {"max_new_tokens": 100, "temperature": 0, "ignore_eos": True},
    })["meta_info"]  # fmt: skip
    assert body["max_tokens"] == len(generated["output_token_logprobs"])
    whole = prompt + [token_id for _, token_id, _ in generated["output_token_logprobs"]]
    again = post(suite, "/generate", {
        "input_ids": whole, "return_logprob": True, "top_logprobs_num": 3, "logprob_start_len": 0,
        "sampling_params": {"max_new_tokens": 1},
    })["meta_info"]  # fmt: skip
    assert again["input_token_logprobs"][len(prompt) :] == generated["output_token_logprobs"]
    assert again["input_top_logprobs"][len(prompt) :] == generated["output_top_logprobs"]


def test_many_at_once_among_others_give_the_same_bits(suite):
    prompts = [prompt_of(length, seed) for seed in (1, 2) for length in (40, 130, 300, 700)]
    alone = [echoed(suite, prompt, cache_salt="alone") for prompt in prompts]
    with ThreadPoolExecutor(16) as pool:
        others = [pool.submit(echoed, suite, prompt_of(90, seed), 20) for seed in range(3, 8)]
        together = list(pool.map(lambda prompt: echoed(suite, prompt, cache_salt="company"), prompts * 2))
        assert all(other.result() for other in others)
    assert together == alone * 2


@pytest.mark.parametrize("start", [1, 63, 64, 65, 199, 200, 299])
def test_a_later_start_gives_the_rest_of_the_list_and_uses_cached_pages_before_it(suite, start):
    prompt = prompt_of(300, seed=9)
    whole = echoed(suite, prompt)["token_logprobs"]
    found = post(suite, "/generate", {
        "input_ids": prompt, "return_logprob": True, "logprob_start_len": start, "top_logprobs_num": 2,
        "sampling_params": {"max_new_tokens": 1},
    })["meta_info"]  # fmt: skip
    first, *others = found["input_token_logprobs"]
    assert first == [None, prompt[start], None]
    rest = zip(whole[start + 1 : 300], prompt[start + 1 :], strict=True)
    assert [tuple(entry[:2]) for entry in others] == list(rest)
    assert found["cached_tokens"] == (start - 1) // 64 * 64
    assert [len(top or []) for top in found["input_top_logprobs"]] == [0] + [2] * (299 - start)


def test_vllms_field_has_the_rank_and_the_alternatives_of_every_token(suite, reference):
    prompt = prompt_of(150, seed=4)
    rows = plain_logprobs(reference.model, prompt)
    body = {"prompt": prompt, "prompt_logprobs": 2, "max_tokens": 1, "n": 2}
    answer = post(suite, "/v1/completions", body)
    assert answer["choices"][0]["prompt_logprobs"] == answer["choices"][1]["prompt_logprobs"]
    first, *positions = answer["choices"][0]["prompt_logprobs"]
    assert first is None
    assert len(positions) == len(prompt) - 1
    for row, token_id, position in zip(rows, prompt[1:], positions, strict=True):
        own = position[str(token_id)]
        assert next(iter(position)) == str(token_id)
        assert own["rank"] == 1 + int((row > row[token_id]).sum())
        likeliest = [str(number) for number in row.topk(2).indices.tolist()]
        assert set(position) == {str(token_id), *likeliest}
        assert [position[name]["rank"] for name in likeliest] == [1, 2]


def test_a_chat_has_them_for_its_rendered_prompt_and_null_for_the_pads_of_an_image(suite):
    body = {
        "messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 2, "prompt_logprobs": 1,
        "temperature": 0, "thinking": {"type": "disabled"},
    }  # fmt: skip
    answer = post(suite, "/v1/chat/completions", body)
    counted = post(suite, "/tokenize", {"messages": body["messages"], "thinking": body["thinking"]})
    positions = answer["prompt_logprobs"]
    assert positions[0] is None
    found = [
        position[str(token)] for position, token in zip(positions[1:], counted["tokens"][1:], strict=True)
    ]
    raw = echoed(suite, counted["tokens"], 1)
    assert [entry["logprob"] for entry in found] == raw["token_logprobs"][1 : len(counted["tokens"])]


def test_grpc_gives_the_same_whole_and_streamed(suite):
    prompt = prompt_of(400, seed=5)
    expected = echoed(suite, prompt)["token_logprobs"][:400]
    options = generation_pb2.PromptLogprobsOptions(top_logprobs=1)
    request = generation_pb2.GenerateRequest(
        token_ids=generation_pb2.TokenIds(ids=prompt),
        sampling=sampling_pb2.SamplingParams(max_tokens=2),
        prompt_logprobs=options,
    )
    with suite.channel() as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        whole = list(stub.Generate(request, timeout=240).prompt_logprobs)
        chunks = list(stub.StreamGenerate(request, timeout=240))
    assert [token.token.logprob if token.scored else None for token in whole] == expected
    assert [token.token.token_id for token in whole] == prompt
    assert [token for chunk in chunks for token in chunk.prompt_logprobs] == whole
    begun = next(index for index, chunk in enumerate(chunks) if chunk.deltas)
    assert not any(chunk.prompt_logprobs for chunk in chunks[begun:])


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_a_worker_killed_meanwhile_neither_loses_nor_repeats_one(nano_dir, tmp_path_factory, role):
    flags = {"gateway": {"worker_wait_seconds": 100.0}}
    prompts = [prompt_of(1200, seed) for seed in range(20, 24)]
    with Stack(nano_dir, tmp_path_factory.mktemp("killed"), flags) as stack:
        stack.start()
        expected = [echoed(stack, prompt, 20) for prompt in prompts]
        with ThreadPoolExecutor(4) as pool:
            asked = [
                pool.submit(echoed, stack, prompt, 20, cache_salt="killed", ignore_eos=True)
                for prompt in prompts
            ]
            stack.signal(role, signal.SIGKILL)
            stack.start(role)
            assert [each.result() for each in asked] == expected
