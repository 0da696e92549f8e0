"""What SGLang's benchmark and evaluation scripts send, and read from the answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

PROMPT = "one two three"


@dataclass
class Outcome:
    """As such a script records a request. `moments`: how many pieces of text came."""

    success: bool = False
    text: str = ""
    output_len: int = 0
    moments: int = 0
    error: str = ""
    bodies: list[dict] = field(default_factory=list)


def generate_body(length):
    return {
        "text": PROMPT,
        "sampling_params": {"temperature": 0.0, "max_new_tokens": length, "ignore_eos": True},
        "stream": True,
        "lora_path": None,
        "return_logprob": False,
        "return_routed_experts": False,
        "logprob_start_len": -1,
    }


def completion_body(length):
    return {
        "model": "kimi", "prompt": PROMPT, "best_of": 1, "max_tokens": length, "stream": True,
        "temperature": 0.0, "ignore_eos": True,
    }  # fmt: skip


def chat_body(length):
    return {
        "model": "kimi", "messages": [{"role": "user", "content": PROMPT}], "temperature": 0.0,
        "max_completion_tokens": length, "stream": True, "ignore_eos": True,
    }  # fmt: skip


def read_generate(outcome, document):
    if document["text"]:
        outcome.text = document["text"]
        outcome.output_len = document["meta_info"]["completion_tokens"]
        outcome.moments += 1


def read_completion(outcome, document):
    text = document["choices"][0]["text"]
    if text:
        outcome.text += text
        outcome.moments += 1
        outcome.output_len = (document.get("usage") or {}).get("completion_tokens", outcome.output_len)


def read_chat(outcome, document):
    for choice in document["choices"]:
        delta = choice["delta"]
        text = delta.get("content") or delta.get("reasoning_content") or ""
        outcome.text += text
        outcome.moments += bool(text)


BACKENDS = {
    "sglang": ("/generate", generate_body, read_generate),
    "sglang-oai": ("/v1/completions", completion_body, read_completion),
    "vllm": ("/v1/completions", completion_body, read_completion),
    "sglang-oai-chat": ("/v1/chat/completions", chat_body, read_chat),
}


async def run_one(http, backend, length) -> Outcome:
    """Line by line: each that is not empty is JSON behind `data: `, nothing else is understood."""
    path, body, read = BACKENDS[backend]
    outcome = Outcome()
    headers = {"Authorization": "Bearer any"}
    async with http.stream("POST", path, json=body(length), headers=headers) as answer:
        if answer.status_code != 200:
            outcome.error = (await answer.aread()).decode()
            return outcome
        async for line in answer.aiter_lines():
            if not line.strip():
                continue
            data = line.strip().removeprefix("data: ")
            if data != "[DONE]":
                read(outcome, json.loads(data))
    outcome.success = True
    return outcome


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_benchmark_reads_every_answer_to_its_end(suite, backend):
    suite.say("alpha beta</think>gamma delta epsilon", end=False)
    suite.decode.step_s = 0.02  # else some tokens come together, and are one event
    models = (await suite.http.get("/v1/models")).json()
    assert models["data"][0]["id"] == "kimi"
    for length in (1, 32):
        outcome = await run_one(suite.http, backend, length)
        assert outcome.success, outcome.error
    assert outcome.moments > 3
    assert outcome.text.replace("</think>", "") == "alpha betagamma delta epsilon"
    if backend == "sglang":
        assert outcome.output_len == len(suite.decode.script(None, 0))
    submit = suite.decode.submits[-1]
    assert (submit.sampling.max_tokens, submit.sampling.ignore_eos, submit.sampling.temperature) == (
        32,
        True,
        0,
    )
    server = await suite.http.get("/server_info")
    assert server.json()["internal_states"][0].get("avg_spec_accept_length") is None


async def test_an_evaluation_warms_the_common_prefix_and_asks_its_questions(suite):
    info = (await suite.http.get("/get_model_info")).json()
    assert isinstance(info["model_path"], str)
    prefix = "Question: 1+1?\nAnswer: 2 #### 2\n\n" * 3
    body = {"text": prefix, "sampling_params": {"max_new_tokens": 0}}
    assert (await suite.http.post("/generate", json=body)).status_code == 200
    assert suite.decode.submits[0].sampling.max_tokens == 0
    suite.say(" 4 #### 4\n\nQuestion: next", end=False)
    params = {
        "skip_special_tokens": True, "spaces_between_special_tokens": True, "max_new_tokens": 512, "n": 1,
        "stop": ["Question", "Assistant:", "<|separator|>"], "stop_token_ids": [], "stop_regex": [],
        "temperature": 0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "frequency_penalty": 0.0,
        "presence_penalty": 0.0, "ignore_eos": False, "regex": None,
    }  # fmt: skip
    body = {"text": prefix + "Question: 2+2?\nAnswer:", "sampling_params": params}
    answer = (await suite.http.post("/generate", json=body)).json()
    assert answer["text"] == " 4 #### 4\n\n"
    assert answer["meta_info"]["completion_tokens"] > 0
