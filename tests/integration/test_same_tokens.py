"""The suite, disaggregated and concurrent, gives exactly the tokens of a plain loop over the same model."""

from __future__ import annotations

import io
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

from perigee.v1 import chat_pb2, chat_pb2_grpc, generation_pb2, generation_pb2_grpc, sampling_pb2
from services.common.media.video_file import VideoLimits
from services.engine.loading.vision import load_vision_model
from services.families.conversation import Conversation, ImagePart, Message, TextPart, VideoPart
from services.families.kimi.chat.prompt import render
from services.families.kimi.family import MEDIA
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.prompt import expand_media
from services.vision.preprocess import preprocess_image
from services.vision.video import preprocess_video, read_chunks
from tests.support.reference_loop import ReferenceLoop
from tests.support.stack import Stack
from tests.support.videos import film

NUM_TOKENS = 32
LENGTHS = [
    *(1, 2, 3, 5, 9, 16, 17, 18, 19, 30, 40, 50, 62, 63, 64, 65, 66, 67, 80, 100, 127, 128, 129, 130, 150),
    *(190, 191, 192, 193, 200, 250, 256, 257, 300, 320, 384, 400, 448, 500, 512, 513, 514, 577, 640, 700),
    *(801, 900, 1000, 1025, 1537, 2500),
]


def greedy(max_tokens: int = NUM_TOKENS) -> sampling_pb2.SamplingParams:
    return sampling_pb2.SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)


def generate(suite: Stack, prompts: list[list[int]]) -> list[list[int]]:
    """Sends all prompts at once through the gateway's token door."""
    with suite.channel() as channel, ThreadPoolExecutor(16) as pool:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)

        def one(prompt: list[int]) -> list[int]:
            token_ids = generation_pb2.TokenIds(ids=prompt)
            request = generation_pb2.GenerateRequest(token_ids=token_ids, sampling=greedy())
            return list(stub.Generate(request, timeout=240).choices[0].token_ids)

        return list(pool.map(one, prompts))


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    draw = random.Random(20)
    return [[draw.randrange(2048) for _ in range(length)] for length in LENGTHS]


@pytest.fixture(scope="module")
def expected(prompts: list[list[int]], reference: ReferenceLoop) -> list[list[int]]:
    return [reference.greedy(prompt, NUM_TOKENS) for prompt in prompts]


def test_fifty_prompts_at_once_give_the_tokens_of_a_plain_loop(suite, prompts, expected, fidelity):
    assert len(prompts) >= 50
    distinct = sorted(len(set(tokens)) for tokens in expected)
    print(f"distinct tokens of {NUM_TOKENS}: least {distinct[0]}, median {distinct[len(distinct) // 2]}")
    assert distinct[0] >= NUM_TOKENS // 2, "outputs too dull to tell a right one from a wrong one"
    wrong = [
        len(prompt)
        for prompt, tokens, right in zip(prompts, generate(suite, prompts), expected, strict=True)
        if tokens != right
    ]
    assert not wrong, f"prompts of these lengths differ: {wrong}"
    what = f"{NUM_TOKENS} greedy tokens of prompts served at once, disaggregated"
    fidelity.equal("Whole suite", what, "plain loop in one process", len(prompts))


def test_the_same_prompts_found_in_the_caches_give_the_same_tokens(suite, prompts, expected):
    chosen = [index for index, prompt in enumerate(prompts) if 60 < len(prompt) <= 1000]
    again = generate(suite, [prompts[index] for index in chosen])
    assert again == [expected[index] for index in chosen]


def test_prompts_that_share_a_cached_prefix_give_the_same_tokens(suite, prompts, reference):
    base = next(prompt for prompt in prompts if len(prompt) == 700)
    draw = random.Random(21)
    tails = [[draw.randrange(2048) for _ in range(length)] for length in (1, 7, 40, 64, 130)]
    branches = [base[:cut] + tail for cut in (64, 320, 650) for tail in tails]
    generate(suite, [base])
    assert generate(suite, branches) == [reference.greedy(branch, NUM_TOKENS) for branch in branches]


def test_logprobs_are_the_same_bits_alone_in_company_and_from_the_caches(suite, prompts, fidelity):
    chosen = [prompt for prompt in prompts if len(prompt) in (1, 17, 64, 130, 320, 577, 801)]
    sampling = greedy(16)
    sampling.logprobs, sampling.top_logprobs = True, 5

    def one(prompt: list[int], salt: str) -> bytes:
        token_ids = generation_pb2.TokenIds(ids=prompt)
        request = generation_pb2.GenerateRequest(token_ids=token_ids, sampling=sampling, cache_salt=salt)
        choice = stub.Generate(request, timeout=240).choices[0]
        assert len(choice.logprobs) == 16
        return b"".join(entry.SerializeToString(deterministic=True) for entry in choice.logprobs)

    with suite.channel() as channel, ThreadPoolExecutor(16) as pool:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        alone = [one(prompt, "alone") for prompt in chosen]
        cached = [one(prompt, "alone") for prompt in chosen]
        together = list(pool.map(one, chosen * 2, ["company"] * len(chosen) + ["more"] * len(chosen)))
    assert cached == alone
    assert together == alone * 2
    assert len(set(alone)) == len(alone)
    what = "log-probabilities of 16 greedy tokens and 5 alternatives, in company and cached"
    fidelity.equal("Whole suite", what, "the same prompt alone", 3 * len(chosen))


def picture(seed: int, width: int, height: int) -> bytes:
    """A PNG of soft random colours."""
    draw = random.Random(seed)
    small = Image.new("RGB", (8, 8))
    small.putdata([tuple(draw.randrange(256) for _ in range(3)) for _ in range(64)])
    buffer = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


QUESTIONS: list[list[str | tuple[int, int, int]]] = [
    ["What is this?", (1, 56, 56)],
    [(2, 120, 40), "Describe it."],
    ["First", (3, 300, 200), "and second", (4, 28, 28), "compare."],
    [(5, 90, 500), (5, 90, 500), "the same twice"],
    ["A large one", (6, 640, 480)],
    ["The first again", (1, 56, 56), "with other words"],
]


def parts(question: list[str | tuple[int, int, int]]) -> tuple[TextPart | ImagePart, ...]:
    return tuple(TextPart(p) if isinstance(p, str) else ImagePart(picture(*p)) for p in question)


@pytest.mark.parametrize("run", ["fresh", "cached"])
def test_prompts_with_images_give_the_text_of_a_plain_loop(suite, nano_dir: Path, reference, run, fidelity):
    tokenizer = KimiTokenizer.from_dir(nano_dir)
    vision = load_vision_model(nano_dir)
    expected = [image_answer(parts(question), tokenizer, vision, reference) for question in QUESTIONS]
    with suite.channel() as channel, ThreadPoolExecutor(6) as pool:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        answers = list(pool.map(lambda question: chat(stub, parts(question)), QUESTIONS))
    assert answers == expected
    assert len(set(answers)) == len(answers), "different images must give different answers"
    what = f"{NUM_TOKENS} greedy tokens of prompts with images, disaggregated"
    fidelity.equal("Whole suite", what, "plain loop in one process", len(answers))


def chat(stub: chat_pb2_grpc.ChatServiceStub, content: tuple[TextPart | ImagePart, ...]) -> str:
    """Asks through the gateway's chat door: vision, prefill, decode."""
    message = chat_pb2.Message(role="user")
    for part in content:
        if isinstance(part, TextPart):
            message.content.add(text=part.text)
        else:
            message.content.add(image=chat_pb2.Image(data=part.data))
    request = chat_pb2.ChatRequest(messages=[message], sampling=greedy(), thinking=False)
    return stub.Complete(request, timeout=120).choices[0].content


def image_answer(
    content: tuple[TextPart | ImagePart, ...], tokenizer: KimiTokenizer, vision, reference: ReferenceLoop
) -> str:
    """Computes the same answer in this process: render, encode each image, expand, loop."""
    conversation = Conversation(messages=(Message(role="user", content=content),), thinking=False)
    rows = []
    for part in content:
        if isinstance(part, ImagePart):
            patches = preprocess_image(part.data, 1 << 26, MEDIA)
            grid = patches.grid
            rows.append(
                vision.encode(torch.from_numpy(patches.pixels), (grid.grid_t, grid.grid_h, grid.grid_w))
            )
    ids, runs = expand_media(render(conversation, tokenizer), [len(embedding) for embedding in rows])
    embeds = tuple((run.offset, embedding) for run, embedding in zip(runs, rows, strict=True))
    output = reference.greedy(ids, NUM_TOKENS, embeds)
    visible = [token for token in output if not tokenizer.is_special(token)]
    return tokenizer.decode_bytes(visible).decode("utf-8", "replace")


def test_a_prompt_with_a_video_gives_the_text_of_a_plain_loop(suite, nano_dir: Path, reference):
    video = film(num_frames=33, seed=3)
    message = chat_pb2.Message(role="user")
    message.content.add(video=chat_pb2.Video(data=video))
    message.content.add(text="What happens?")
    request = chat_pb2.ChatRequest(messages=[message], sampling=greedy(), thinking=False)
    with suite.channel() as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        answers = [stub.Complete(request, timeout=120).choices[0].content for _ in range(2)]
    assert answers == [video_answer(video, nano_dir, reference)] * 2


def video_answer(video: bytes, nano_dir: Path, reference: ReferenceLoop) -> str:
    """Computes the same answer in this process: sample, split, encode each chunk, render with its
    time, loop.
    """
    tokenizer, vision = KimiTokenizer.from_dir(nano_dir), load_vision_model(nano_dir)
    limits = VideoLimits(1 << 20, 1_000, 60.0)
    chunks = read_chunks(video, limits, MEDIA)
    rows = [
        vision.encode(
            torch.from_numpy(patches.pixels), (patches.grid.grid_t, patches.grid.grid_h, patches.grid.grid_w)
        )
        for patches in preprocess_video(video, chunks, limits, lambda: None)
    ]
    content = (VideoPart(tuple(chunk.timestamp for chunk in chunks)), TextPart("What happens?"))
    conversation = Conversation(messages=(Message(role="user", content=content),), thinking=False)
    ids, runs = expand_media(render(conversation, tokenizer), [len(embedding) for embedding in rows])
    embeds = tuple((run.offset, embedding) for run, embedding in zip(runs, rows, strict=True))
    output = reference.greedy(ids, NUM_TOKENS, embeds)
    visible = [token for token in output if not tokenizer.is_special(token)]
    return tokenizer.decode_bytes(visible).decode("utf-8", "replace")
