"""The golden vectors through REST, by a gateway of the published tokenizer alone."""

from __future__ import annotations

import hashlib

import pytest

from tests.families.kimi.chat.golden import (
    chat_body,
    expected_ids,
    expected_text,
    numbered_ids,
    read_vectors,
    refused,
    verbatim,
)
from tests.gateway.pictures import data_url, header_only
from tests.gateway.tokenizer_alone import open_tokenizer

MEDIA_PAD = 163_605


@pytest.fixture
def directory(shared_dir, tmp_path):
    """The published tokenizer's files and no other."""
    for name in ("tiktoken.model", "tokenizer_config.json"):
        (tmp_path / name).symlink_to(shared_dir / "data" / "kimi-k2.5" / name)
    return tmp_path


async def answer_to(door, path, **body):
    answer = await door.http.post(path, json=body)
    assert answer.status_code == 200, (body, answer.text)
    return answer.json()


def check(ids, expected, suffix, name):
    """Against the whole list, or where that is too long its hash."""
    assert len(ids) == expected[f"n_tokens{suffix}"], name
    if f"token_ids{suffix}" in expected:
        assert ids == expected[f"token_ids{suffix}"], name
    else:
        digest = hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()
        assert digest == expected[f"token_ids{suffix}_sha256"], name


async def test_every_golden_text_gives_its_ids_and_these_the_text(shared_dir, directory):
    vectors = [v for v in read_vectors(shared_dir, "tokenizer.jsonl") if not v["kind"].startswith("decode")]
    assert vectors
    async with open_tokenizer(directory) as door:
        for vector in vectors:
            given, expected = vector["input"], vector["expected"]
            text = given["text"] if "text" in given else "".join(p * n for p, n in given["text_repeat"])
            for parse, suffix in ((True, ""), (False, "_plain")):
                if f"n_tokens{suffix}" in expected:
                    made = await answer_to(door, "/tokenize", prompt=text, parse_special=parse)
                    assert (made["count"], made["text"]) == (len(made["tokens"]), text)
                    check(made["tokens"], expected, suffix, vector["id"])
                    back = await answer_to(door, "/detokenize", tokens=made["tokens"])
                    assert back["text"] == back["prompt"] == text, vector["id"]


async def test_every_golden_list_of_ids_gives_its_text(shared_dir, directory):
    vectors = [v for v in read_vectors(shared_dir, "tokenizer.jsonl") if v["kind"].startswith("decode")]
    assert vectors
    async with open_tokenizer(directory) as door:
        for vector in vectors:
            for skip, key in ((False, "text"), (True, "text_skip_special")):
                ids = vector["input"]["token_ids"]
                made = await answer_to(door, "/detokenize", tokens=ids, skip_special_tokens=skip)
                assert made["text"] == vector["expected"][key], vector["id"]


async def test_every_golden_conversation_gives_its_text_ids_and_count(shared_dir, directory, fidelity):
    vectors = read_vectors(shared_dir, "chat_template.jsonl")
    four_pads = data_url(header_only(50, 50), "image/bmp")
    assert len(vectors) - sum(map(verbatim, vectors)) < 20
    async with open_tokenizer(directory) as door:
        for vector in filter(verbatim, vectors):
            opened = vector["input"]["add_generation_prompt"]
            body = chat_body(vector, [four_pads])
            made = await answer_to(door, "/tokenize", **body, add_generation_prompt=opened)
            golden = expected_ids(vector)
            assert made["count"] == len(made["tokens"]), vector["id"]
            assert made["count"] == len(golden) + 3 * golden.count(MEDIA_PAD), vector["id"]
            if numbered_ids(vector):
                assert made["text"] == expected_text(vector), vector["id"]
                expanded = [same for i in golden for same in ([i] * 4 if i == MEDIA_PAD else [i])]
                assert made["tokens"] == expanded, vector["id"]
    compared = sum(map(verbatim, vectors))
    fidelity.equal("Chat template", "conversations to text and ids through REST", "golden vectors", compared)


async def test_what_is_not_offered_over_rest_is_refused_by_field(shared_dir, directory):
    vectors = list(filter(refused, read_vectors(shared_dir, "chat_template.jsonl")))
    assert vectors
    async with open_tokenizer(directory) as door:
        for vector in vectors:
            answer = await door.http.post("/tokenize", json=chat_body(vector))
            assert answer.status_code == 400, vector["id"]
            assert answer.json()["error"]["param"].startswith(("messages[", "tools[")), vector["id"]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
async def test_images_of_every_golden_size_take_their_tokens(shared_dir, directory, fidelity):
    sizes = [v for v in read_vectors(shared_dir, "image_preprocess.jsonl") if v["kind"] == "image_size"]
    [vector] = [v for v in read_vectors(shared_dir, "chat_template.jsonl") if v["id"] == "chat-image-001a"]
    assert sizes
    async with open_tokenizer(directory, max_image_pixels=200_000_000) as door:
        for size in sizes:
            url = data_url(header_only(size["input"]["width"], size["input"]["height"]), "image/bmp")
            made = await answer_to(door, "/tokenize", **chat_body(vector, [url]))
            more = size["expected"]["num_tokens"] - 1
            assert made["count"] == vector["expected"]["n_tokens"] + more, size["id"]
    fidelity.equal("Image sizes and tokens", "tokens of images through REST", "golden vectors", len(sizes))
