"""The doors of the real suite: the official client, gRPC, the command line, and the errors of each."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from perigee.v1 import chat_pb2, chat_pb2_grpc, generation_pb2, generation_pb2_grpc, sampling_pb2
from services.common.media.video_file import VideoLimits
from services.families.kimi.family import MEDIA
from services.vision.video import read_chunks
from tests.integration.test_same_tokens import picture
from tests.support.stack import Stack
from tests.support.videos import ODD_FILMS, film
from tests.support.waiting import wait_until

LIMITS = VideoLimits(pixels=1_000_000, frames=1_000, seconds=60.0)
REPOSITORY = Path(__file__).resolve().parent.parent.parent
MESSAGES = [{"role": "user", "content": "Which one is bigger, 9.11 or 9.9? Think carefully."}]
# Greedy, long enough, and past end-of-turn tokens, which random weights may give at any time.
GREEDY = {"temperature": 0, "max_tokens": 48, "extra_body": {"ignore_eos": True}}


def text_of(message) -> tuple[str, str]:
    """(reasoning, content) of a message or delta."""
    return getattr(message, "reasoning_content", None) or "", message.content or ""


def test_the_openai_client_gets_the_same_text_streaming_and_not_and_over_grpc(suite, client):
    model = client.models.list().data[0].id
    whole = client.chat.completions.create(model=model, messages=MESSAGES, **GREEDY)
    reasoning, content = "", ""
    finish = None
    for chunk in client.chat.completions.create(model=model, messages=MESSAGES, stream=True, **GREEDY):
        for choice in chunk.choices:
            more_reasoning, more_content = text_of(choice.delta)
            reasoning, content = reasoning + more_reasoning, content + more_content
            finish = choice.finish_reason or finish
    assert (reasoning, content) == text_of(whole.choices[0].message)
    assert reasoning + content
    assert finish == whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 48
    request = chat_pb2.ChatRequest(
        messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text=MESSAGES[0]["content"])])],
        sampling=sampling_pb2.SamplingParams(temperature=0, max_tokens=48, ignore_eos=True),
    )
    with suite.channel() as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        choice = stub.Complete(request, timeout=60).choices[0]
        assert (choice.reasoning_content, choice.content) == (reasoning, content)
        deltas = [delta for chunk in stub.Stream(request, timeout=60) for delta in chunk.deltas]
    assert "".join(delta.reasoning_content for delta in deltas) == reasoning
    assert "".join(delta.content for delta in deltas) == content


def test_every_door_to_raw_text_continues_a_prompt_alike(suite, client):
    prompt = "The quick brown fox jumps over the lazy dog. " * 8
    request = generation_pb2.GenerateRequest(
        text=prompt, sampling=sampling_pb2.SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
    )
    with suite.channel() as channel:
        answer = generation_pb2_grpc.GenerationServiceStub(channel).Generate(request, timeout=60)
    completion = client.completions.create(
        model="kimi-nano", prompt=prompt, temperature=0, max_tokens=24, extra_body={"ignore_eos": True}
    )
    assert completion.choices[0].text == answer.choices[0].text
    params = {"temperature": 0, "max_new_tokens": 24, "ignore_eos": True}
    for new_tokens, text in ((24, answer.choices[0].text), (0, "")):
        body = {"text": prompt, "sampling_params": {**params, "max_new_tokens": new_tokens}}
        status, generated = post(suite, json.dumps(body).encode(), "/generate")
        assert status == 200
        assert generated["text"] == text
        assert generated["meta_info"]["completion_tokens"] == new_tokens
        assert generated["meta_info"]["cached_tokens"] >= 64


def test_an_image_as_a_data_url_gives_the_same_text_as_its_bytes_over_grpc(suite, client):
    png = picture(9, 100, 80)
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"}]
    answer = client.chat.completions.create(
        model="kimi-nano", messages=[{"role": "user", "content": content}], **GREEDY
    )
    parts = [chat_pb2.ContentPart(image=chat_pb2.Image(data=png)), chat_pb2.ContentPart(text="What is it?")]
    request = chat_pb2.ChatRequest(
        messages=[chat_pb2.Message(role="user", content=parts)],
        sampling=sampling_pb2.SamplingParams(temperature=0, max_tokens=48, ignore_eos=True),
    )
    with suite.channel() as channel:
        choice = chat_pb2_grpc.ChatServiceStub(channel).Complete(request, timeout=60).choices[0]
    assert text_of(answer.choices[0].message) == (choice.reasoning_content, choice.content)


def test_a_video_as_a_data_url_gives_the_same_text_as_its_bytes_over_grpc(suite, client):
    video = film(num_frames=33, seed=2)
    url = "data:video/mp4;base64," + base64.b64encode(video).decode()
    content = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": "What is it?"}]
    answer = client.chat.completions.create(
        model="kimi-nano", messages=[{"role": "user", "content": content}], **GREEDY
    )
    parts = [chat_pb2.ContentPart(video=chat_pb2.Video(data=video)), chat_pb2.ContentPart(text="What is it?")]
    request = chat_pb2.ChatRequest(
        messages=[chat_pb2.Message(role="user", content=parts)],
        sampling=sampling_pb2.SamplingParams(temperature=0, max_tokens=48, ignore_eos=True),
    )
    with suite.channel() as channel:
        choice = chat_pb2_grpc.ChatServiceStub(channel).Complete(request, timeout=60).choices[0]
    assert text_of(answer.choices[0].message) == (choice.reasoning_content, choice.content)


@pytest.mark.parametrize("name", ODD_FILMS)
def test_a_film_whose_packets_are_not_its_pictures_is_answered(client, name):
    data = ODD_FILMS[name][0]()
    url = "data:video/mp4;base64," + base64.b64encode(data).decode()
    content = [{"type": "video_url", "video_url": {"url": url}}]
    answer = client.chat.completions.create(
        model="kimi-nano", messages=[{"role": "user", "content": content}], max_tokens=2
    )
    tokens = answer.usage.prompt_tokens_details.model_extra["video_tokens"]
    assert tokens == sum(chunk.grid.num_tokens for chunk in read_chunks(data, LIMITS, MEDIA))


def test_a_seed_repeats_a_sampled_answer_and_choices_differ(client):
    sampled = {
        "model": "kimi-nano",
        "messages": MESSAGES,
        "max_tokens": 24,
        "temperature": 1.0,
        "n": 3,
        "seed": 7,
    }
    first, second = (client.chat.completions.create(**sampled) for _ in range(2))
    texts = [text_of(choice.message) for choice in first.choices]
    assert texts == [text_of(choice.message) for choice in second.choices]
    assert len(set(texts)) == 3


def test_the_readmes_grpc_program_prints_what_the_openai_client_gets(suite, client):
    program = REPOSITORY / "examples" / "grpc_chat.py"
    command = [sys.executable, program, "What is a page?", suite.address("gateway")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    messages = [{"role": "user", "content": "What is a page?"}]
    answer = client.chat.completions.create(
        model="kimi-nano", messages=messages, temperature=0, max_tokens=64
    )
    assert done.stdout == "".join(text_of(answer.choices[0].message)) + "\n"
    assert done.stdout.strip()


def test_the_chat_command_streams_an_answer_about_an_image(suite, tmp_path):
    image = tmp_path / "picture.png"
    image.write_bytes(picture(3, 60, 60))
    command = [sys.executable, "-m", "services.cli.main", "chat", "What is this?", "--image", str(image)]
    options = ["--address", suite.address("gateway"), "--max-tokens", "20", "--temperature", "0"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


BAD_REQUESTS = {
    "unknown model": ({"model": "gpt-9", "messages": MESSAGES}, 404, "model"),
    "no messages": ({"model": "kimi-nano", "messages": []}, 400, "messages"),
    "wrong type": ({"model": "kimi-nano", "messages": MESSAGES, "temperature": "hot"}, 400, "temperature"),
    "out of range": ({"model": "kimi-nano", "messages": MESSAGES, "temperature": 3}, 400, "temperature"),
    "too long": (
        {"model": "kimi-nano", "messages": [{"role": "user", "content": "word " * 40_000}]},
        400,
        "messages",
    ),
    "broken image": (
        {
            "model": "kimi-nano",
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
                }
            ],
        },
        400,
        "messages[0].content[0].image_url",
    ),
    "unsupported": (
        {"model": "kimi-nano", "messages": MESSAGES, "response_format": {"type": "xml"}},
        400,
        "response_format",
    ),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_gets_an_openai_error_that_names_the_field(suite, name):
    body, status, param = BAD_REQUESTS[name]
    answer, error = post(suite, json.dumps(body).encode())
    assert answer == status, error
    assert (error["param"] or "").startswith(param), error
    assert error["type"] == "invalid_request_error"
    assert error["message"]


def test_malformed_json_is_a_400_with_an_error_object(suite):
    status, error = post(suite, b'{"model": ')
    assert status == 400
    assert error["type"] == "invalid_request_error"


def post(suite: Stack, body: bytes, path: str = "/v1/chat/completions") -> tuple[int, dict]:
    request = urllib.request.Request(f"{suite.base_url}{path}", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]


def test_the_same_mistakes_over_grpc_are_invalid_argument_or_its_kin(suite):
    words = chat_pb2.ContentPart(text="hi")
    broken = chat_pb2.ContentPart(image=chat_pb2.Image(data=b"no image"))
    hot = sampling_pb2.SamplingParams(temperature=9)
    cases = [
        (
            chat_pb2.ChatRequest(model="gpt-9", messages=[chat_pb2.Message(role="user", content=[words])]),
            "NOT_FOUND",
        ),
        (chat_pb2.ChatRequest(), "INVALID_ARGUMENT"),
        (
            chat_pb2.ChatRequest(messages=[chat_pb2.Message(role="user", content=[broken])]),
            "INVALID_ARGUMENT",
        ),
        (
            chat_pb2.ChatRequest(messages=[chat_pb2.Message(role="user", content=[words])], sampling=hot),
            "INVALID_ARGUMENT",
        ),
    ]
    with suite.channel() as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        for request, code in cases:
            with pytest.raises(grpc.RpcError) as caught:
                stub.Complete(request, timeout=30)
            assert caught.value.code().name == code, caught.value.details()


def test_two_hundred_streams_at_once_all_finish_and_leave_nothing_behind(suite, client):
    def one(index: int) -> str | None:
        stream = client.chat.completions.create(
            model="kimi-nano",
            messages=[{"role": "user", "content": f"Story number {index}. " + "More of it. " * (index % 12)}],
            stream=True,
            max_tokens=12,
            temperature=0,
            extra_body={"ignore_eos": True},
        )
        return [choice.finish_reason for chunk in stream for choice in chunk.choices][-1]

    started = time.monotonic()
    with ThreadPoolExecutor(200) as pool:
        assert list(pool.map(one, range(200))) == ["length"] * 200
    print(f"200 streams in {time.monotonic() - started:.1f} s")
    print(f"all pages free {suite.wait_until_free(2.0):.2f} s later")
    for role in ("prefill", "decode"):
        assert suite.counter(role, "perigee_integrity_failures_total") == 0


REACHED: dict[str, Callable[[Stack], bool]] = {
    "at once": lambda suite: True,
    "early": lambda suite: busy(suite.metrics("decode")),
    "middle": lambda suite: suite.pages("prefill")["leased"] > 0,
    "late": lambda suite: False,  # with the first token
}


def busy(metrics: Mapping[tuple[str, tuple[tuple[str, str], ...]], float]) -> bool:
    return any(metrics[f"perigee_requests_{state}", ()] > 0 for state in ("waiting", "running"))


@pytest.mark.parametrize("moment", REACHED)
def test_a_client_that_disconnects_frees_everything_within_a_second(suite, moment):
    prompt = [(7 * index) % 2000 for index in range(3000 + len(moment))]
    sampling = sampling_pb2.SamplingParams(temperature=0, max_tokens=4000, ignore_eos=True)
    request = generation_pb2.GenerateRequest(token_ids=generation_pb2.TokenIds(ids=prompt), sampling=sampling)
    begun = threading.Event()

    def cancel_then(stream: grpc.Call) -> None:
        wait_until(lambda: begun.is_set() or REACHED[moment](suite), 60)
        stream.cancel()

    def read(stream: Iterator[generation_pb2.GenerateChunk]) -> None:
        for _ in stream:
            begun.set()

    with suite.channel() as channel:
        stream = generation_pb2_grpc.GenerationServiceStub(channel).StreamGenerate(request)
        cancelling = threading.Thread(target=cancel_then, args=(stream,))
        cancelling.start()
        with pytest.raises(grpc.RpcError) as ended:
            read(stream)
        cancelling.join()
    assert ended.value.code() is grpc.StatusCode.CANCELLED
    print(f"cancelled {moment}: all pages free {suite.wait_until_free(1.0):.2f} s later")
    wait_until(lambda: not busy(suite.metrics("decode")), 60)


def test_the_gateways_metrics_gather_those_of_its_workers(suite):
    with urllib.request.urlopen(f"{suite.base_url}/metrics", timeout=10) as page:
        text = page.read().decode()
    for role in ("vision", "prefill", "decode"):
        label = f'worker="{suite.address(role)}"'
        assert any(
            line.startswith("perigee_kv_pages{") and label in line and 'state="free"' in line
            for line in text.splitlines()
        ), role
    assert "perigee_kv_transfer_bytes_total" in text
    assert "perigee_requests_running" in text
    assert "perigee_requests_waiting" in text
