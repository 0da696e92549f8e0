from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import CheckpointError, InvalidRequest
from services.families.kimi.tokenizer import KimiTokenizer


@pytest.fixture(scope="module")
def tokenizer(nano_dir) -> KimiTokenizer:
    return KimiTokenizer.from_dir(nano_dir)


@pytest.fixture(scope="module")
def published(shared_dir) -> KimiTokenizer:
    return KimiTokenizer.from_dir(shared_dir / "data" / "kimi-k2.5")


@pytest.fixture(scope="module")
def vectors(shared_dir):
    lines = (shared_dir / "data" / "golden" / "tokenizer.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines
    return [json.loads(line) for line in lines]


def check_ids(ids, expected, suffix, name):
    """Against the whole list, or where that is too long its hash."""
    assert len(ids) == expected[f"n_tokens{suffix}"], name
    if f"token_ids{suffix}" in expected:
        assert ids == expected[f"token_ids{suffix}"], name
    else:
        digest = hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()
        assert digest == expected[f"token_ids{suffix}_sha256"], name


def test_every_golden_text_gives_its_ids(published, vectors, fidelity):
    compared = 0
    for vector in vectors:
        if vector["kind"].startswith("decode"):
            continue
        given = vector["input"]
        text = given["text"] if "text" in given else "".join(p * n for p, n in given["text_repeat"])
        compared += 1
        check_ids(published.encode(text, parse_special=True), vector["expected"], "", vector["id"])
        if "n_tokens_plain" in vector["expected"]:
            check_ids(published.encode(text), vector["expected"], "_plain", vector["id"])
    fidelity.equal("Tokenizer", "text to ids, with and without control tokens", "golden vectors", compared)


@settings(deadline=None)
@given(text=st.text(max_size=200) | st.integers(0, 200).map(lambda n: " " * n))
def test_no_text_has_fewer_tokens_than_its_length_promises(tokenizer, text):
    assert tokenizer.least_tokens(len(text)) <= len(tokenizer.encode(text))


def test_control_tokens_are_longer_than_any_other_and_the_promise_knows_it(tokenizer):
    for token_id in range(tokenizer.num_ranks, tokenizer.vocab_size):
        text = tokenizer.decode([token_id]) * 100
        count = len(tokenizer.encode(text, parse_special=True))
        assert tokenizer.least_tokens(len(text), parse_special=True) <= count
        assert tokenizer.least_tokens(len(text)) <= len(tokenizer.encode(text))


def test_the_promise_grows_with_the_text(tokenizer):
    assert tokenizer.least_tokens(0) == 0
    assert tokenizer.least_tokens(1) == 1
    assert tokenizer.least_tokens(1_000_000) > 40_000


def test_every_golden_list_of_ids_gives_its_text(published, vectors, fidelity):
    decoded = [vector for vector in vectors if vector["kind"].startswith("decode")]
    assert decoded
    for vector in decoded:
        ids, expected = vector["input"]["token_ids"], vector["expected"]
        assert published.decode_bytes(ids).hex() == expected["bytes_hex"], vector["id"]
        assert published.decode(ids) == expected["text"], vector["id"]
        assert published.decode(ids, skip_flagged=True) == expected["text_skip_special"], vector["id"]
    fidelity.equal("Tokenizer", "ids to bytes and text", "golden vectors", len(decoded))


def test_the_published_ids_come_from_the_published_files(published):
    assert (published.num_ranks, published.vocab_size) == (163_584, 163_840)
    assert published.stop_ids == {163_585, 163_586}
    assert (published.special.media_pad, published.special.think, published.special.pad) == (
        163_605,
        163_606,
        163_839,
    )


@settings(deadline=None)
@given(text=st.text())
def test_text_comes_back_whole(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode(text, parse_special=True)) == text


def test_special_strings_are_control_tokens_only_when_asked_for(tokenizer):
    text = "a<|im_end|></think>"
    plain, parsed = tokenizer.encode(text), tokenizer.encode(text, parse_special=True)
    assert not any(map(tokenizer.is_special, plain))
    assert parsed[1:] == [tokenizer.special.im_end, tokenizer.special.end_think]
    assert tokenizer.decode(plain) == tokenizer.decode(parsed) == text


def test_numbers_are_single_digits_in_the_small_vocabulary(tokenizer):
    assert [tokenizer.token_bytes(token_id) for token_id in tokenizer.encode("1234567")] == [
        b"1", b"2", b"3", b"4", b"5", b"6", b"7",
    ]  # fmt: skip


def test_reserved_slots_are_special_and_named_by_their_id(tokenizer):
    reserved = tokenizer.num_ranks + 100
    assert tokenizer.is_special(reserved)
    assert tokenizer.token_bytes(reserved) == f"<|reserved_token_{reserved}|>".encode()
    assert not tokenizer.is_special(tokenizer.num_ranks - 1)
    assert not tokenizer.is_special(tokenizer.vocab_size)


def test_flagged_ids_are_left_out_on_request_and_think_markers_are_not(tokenizer):
    ids = tokenizer.encode("<think>a<|im_end|>", parse_special=True)
    assert tokenizer.decode(ids, skip_flagged=True) == "<think>a"


def test_a_token_may_be_part_of_a_character(tokenizer):
    ids = tokenizer.encode("🦉")
    assert tokenizer.decode(ids[:-1]) == "\ufffd"
    assert tokenizer.decode_bytes(ids) == "🦉".encode()


def test_a_lone_surrogate_is_encoded_as_a_replacement_character(tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"


@pytest.mark.parametrize("token_id", [-1, 2_304, 1 << 40])
def test_an_id_outside_the_vocabulary_is_named(tokenizer, token_id):
    with pytest.raises(InvalidRequest, match=f"token id {token_id} "):
        tokenizer.decode_bytes([1, token_id])
    with pytest.raises(InvalidRequest, match=f"token id {token_id} "):
        tokenizer.token_bytes(token_id)


@pytest.mark.parametrize(
    "text", ["a" * 200_000, " " * 200_000, "\n " * 100_000, "A" * 60_000 + "b", "你" * 60_000]
)
def test_hostile_runs_are_encoded_whole(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_directory_without_the_marker_names_is_refused_with_all_of_them(nano_dir, tmp_path):
    config = json.loads((nano_dir / "tokenizer_config.json").read_text())
    entries = config["added_tokens_decoder"]
    config["added_tokens_decoder"] = {
        key: entry for key, entry in entries.items() if entry["content"] not in ("<think>", "[EOS]")
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "tiktoken.model").write_bytes((nano_dir / "tiktoken.model").read_bytes())
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json.*\[EOS\], <think>"):
        KimiTokenizer.from_dir(tmp_path)
