from __future__ import annotations

import json

import pytest

from services.families.kimi.tokenizer import KimiTokenizer
from training.nano.tokenizer import NUM_RANKS, write_tokenizer

FILES = ("tiktoken.model", "tokenizer_config.json")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("nano")
    write_tokenizer(directory)
    return directory


@pytest.mark.parametrize("name", FILES)
def test_the_committed_files_are_what_the_script_writes(written, nano_dir, name):
    assert (written / name).read_bytes() == (nano_dir / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_the_published_files_have_the_same_shape(nano_dir, shared_dir, name):
    published = (shared_dir / "data" / "kimi-k2.5" / name).read_text()
    ours = (nano_dir / name).read_text()
    if name == "tiktoken.model":
        assert ours.splitlines()[:256] == published.splitlines()[:256]
        return
    ours, published = json.loads(ours), json.loads(published)
    # auto_map names a file of Python code, which is not part of this checkpoint.
    del published["auto_map"]
    offset = 163_584 - NUM_RANKS
    published["added_tokens_decoder"] = {
        str(int(key) - offset): entry for key, entry in published["added_tokens_decoder"].items()
    }
    assert ours == published


def test_the_vocabulary_has_its_stated_size(nano_dir):
    tokenizer = KimiTokenizer.from_dir(nano_dir)
    assert (tokenizer.num_ranks, tokenizer.vocab_size) == (2_048, 2_304)


@pytest.mark.parametrize("word", ["user", "assistant", "system", "tool", "image", " the", " functions"])
def test_words_of_the_chat_format_are_single_tokens(nano_dir, word):
    assert len(KimiTokenizer.from_dir(nano_dir).encode(word)) == 1
