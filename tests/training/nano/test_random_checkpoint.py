"""The embedded checkpoint is what its script writes."""

from __future__ import annotations

import json
import random
import shutil

import pytest

from services.engine.loading.text import load_text_model
from tests.engine.text_models import make_runner, pages_for
from tests.support.batches import batch_of
from training.nano.random_checkpoint import write_checkpoint
from training.nano.vocabulary import Vocabulary

TOKENIZER_FILES = ("tiktoken.model", "tokenizer_config.json")
LENGTHS = [1, 1, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 64, 65, 100, 200, 300]


def test_running_the_script_again_gives_the_same_bytes(nano_dir, tmp_path):
    for name in TOKENIZER_FILES:
        shutil.copy(nano_dir / name, tmp_path)
    write_checkpoint(tmp_path)
    written = {path.name for path in tmp_path.iterdir()}
    assert written >= {"config.json", "generation_config.json", "preprocessor_config.json"}
    for name in written:
        assert (tmp_path / name).read_bytes() == (nano_dir / name).read_bytes(), name


def test_the_weights_are_small_and_in_several_shards(nano_dir):
    shards = list(nano_dir.glob("model-*.safetensors"))
    assert 2 <= len(shards) <= 3
    assert sum(path.stat().st_size for path in shards) <= 8_000_000


def test_token_ids_are_those_of_the_tokenizer(nano_dir):
    vocabulary = Vocabulary.from_dir(nano_dir)
    config = json.loads((nano_dir / "config.json").read_text())
    assert config["media_placeholder_token_id"] == vocabulary.special("<|media_pad|>")
    assert config["eos_token_id"] == vocabulary.special("<|im_end|>")
    assert config["text_config"]["vocab_size"] == vocabulary.size == 2304


def test_without_a_tokenizer_the_script_says_what_is_absent(tmp_path):
    with pytest.raises(SystemExit, match=r"tiktoken\.model is absent"):
        write_checkpoint(tmp_path)


@pytest.fixture(scope="module")
def model(nano_dir):
    return load_text_model(nano_dir, deterministic=True)


def continuations(model, prompts, count=64, spoil=None):
    """Greedy tokens of each prompt; `spoil(pages tensor, pages of the first prompt)` acts after prefill."""
    needed = [len(pages_for(len(prompt) + count)) for prompt in prompts]
    runner = make_runner(model, sum(needed))
    held = [list(range(sum(needed[:i]), sum(needed[: i + 1]))) for i in range(len(prompts))]
    items = [(p, 0, pages, True) for p, pages in zip(prompts, held, strict=True)]
    tokens = [[token] for token in runner.forward(batch_of(items)).argmax(-1).tolist()]
    if spoil is not None:
        spoil(runner.kv_pages, held[0])
    for step in range(count - 1):
        items = [
            ([out[-1]], len(prompt) + step, pages, True)
            for out, prompt, pages in zip(tokens, prompts, held, strict=True)
        ]
        for out, token in zip(tokens, runner.forward(batch_of(items)).argmax(-1).tolist(), strict=True):
            out.append(token)
    return tokens


def test_greedy_continuations_are_varied_and_do_not_stop(model):
    rng = random.Random(11)
    prompts = [[rng.randrange(2048) for _ in range(length)] for length in LENGTHS]
    outputs = continuations(model, prompts)
    assert min(len(set(output)) for output in outputs) >= 30
    assert max(token for output in outputs for token in output) < 2048
    assert len({tuple(output) for output in outputs}) == len(outputs)


@pytest.mark.parametrize("page", [0, 7, 14])
def test_a_spoilt_page_changes_the_continuation(model, page):
    rng = random.Random(12)
    prompt = [rng.randrange(2048) for _ in range(1000)]
    healthy = continuations(model, [prompt])

    # Entries carry their positions: to exchange two pages, or the tokens of one, would change nothing.
    def overwrite(pages, held):
        pages[held[page]] = pages[held[page + 1]]

    assert continuations(model, [prompt], spoil=overwrite) != healthy


def test_one_other_token_early_in_a_long_prompt_changes_the_continuation(model):
    rng = random.Random(13)
    prompt = [rng.randrange(2048) for _ in range(1000)]
    other = [*prompt[:40], (prompt[40] + 1) % 2048, *prompt[41:]]
    assert continuations(model, [prompt]) != continuations(model, [other])
