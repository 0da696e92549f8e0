"""The model on kernels gives what the model in plain torch gives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from services.common.model_types import read_config
from services.engine.loading.text import load_text_model
from services.engine.model.text_model import TextModel
from services.engine.runner import ModelRunner
from services.engine.weights.random_checkpoint import with_int4, write_random_checkpoint
from tests.engine.kernel_model import runs
from tests.engine.text_models import make_runner, random_weights, whole
from tests.kernels.interpreter import Interpreter
from tests.support.batches import batch_of

WEIGHTS = random_weights(runs.CONFIG)
PROMPT = torch.randint(0, 97, (100,), generator=torch.Generator().manual_seed(8)).tolist()
PAGES = [4, 1]


@pytest.fixture(scope="module")
def interpreter():
    runner = Interpreter()
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def small(nano_dir):
    """The configuration of a checkpoint as small as the kernels take, for two ranks."""
    values = read_config(nano_dir / "config.json")
    text = values["text_config"] | {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "moe_intermediate_size": 64,
        "kv_lora_rank": 64,
        "q_lora_rank": 32,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 16,
        "v_head_dim": 16,
        "n_routed_experts": 4,
    }
    vision = values["vision_config"] | {"text_hidden_size": 64, "vt_num_hidden_layers": 1}
    return values | {"text_config": text, "vision_config": vision}


@pytest.fixture(scope="module")
def small_dir(small, tmp_path_factory):
    """A checkpoint of that configuration."""
    directory = tmp_path_factory.mktemp("small")
    write_random_checkpoint(directory, small, seed=5)
    return directory


def torch_logits(weights, batches, num_pages):
    model = TextModel(runs.CONFIG, weights, deterministic=False)
    runner = ModelRunner(model, runs.make_pages(num_pages), 1)
    found = [runner.forward(batch_of([(*item, True) for item in batch])) for batch in batches]
    return found, runner.kv_pages


def check_near(found, expected):
    assert expected.std() > 0.1
    assert (found - expected).abs().max() <= 1e-4 * expected.std()


@pytest.mark.parametrize(("deterministic", "chunks"), [(True, (20, 1, 3)), (False, (66, 1, 3))])
def test_a_prompt_in_chunks_has_the_logits_and_the_cache_of_plain_torch(interpreter, deterministic, chunks):
    logits, cache = interpreter(runs.logits_of_chunks, WEIGHTS, deterministic, PROMPT, chunks, PAGES)
    batches, start = [], 0
    for count in chunks:
        batches.append([(PROMPT[start : start + count], start, PAGES)])
        start += count
    expected, kv_pages = torch_logits(WEIGHTS, batches, 5)
    check_near(logits, torch.cat(expected))
    written = kv_pages[PAGES].transpose(1, 2).flatten(0, 1)[:start]
    check_near(cache.transpose(1, 2).flatten(0, 1)[:start], written)


@pytest.mark.parametrize("deterministic", [True, False])
def test_scored_rows_have_the_logits_that_they_have_when_they_are_kept(interpreter, deterministic):
    scored, kept = interpreter(runs.scored_and_kept, WEIGHTS, deterministic, PROMPT[:70], PAGES)
    check_near(scored, kept)
    assert torch.equal(scored, kept) or not deterministic


def test_expanded_chunks_beside_single_tokens_have_the_logits_of_plain_torch(interpreter):
    # What lies before position 60 of page 0 is the same garbage for both models.
    batches = [
        [(PROMPT[10:11], 10, [0]), (PROMPT[:9], 0, [1]), (PROMPT[5:8], 0, [2])],
        [(PROMPT[60:69], 60, [0, 3]), (PROMPT[9:10], 9, [1])],
    ]
    found = interpreter(runs.logits_of_batches, WEIGHTS, False, batches, 4, 8)
    expected, _ = torch_logits(WEIGHTS, batches, 4)
    for ours, theirs in zip(found, expected, strict=True):
        check_near(ours, theirs)


def test_packed_experts_are_computed_as_their_dequantised_values(interpreter):
    packed, plain = runs.packed_experts()
    batches = [[(PROMPT[:20], 0, [0]), (PROMPT[30:33], 0, [1])]]
    (found,) = interpreter(runs.logits_of_batches, packed, False, batches, 2)
    (expected,), _ = torch_logits(plain, batches, 2)
    check_near(found, expected)


def test_in_deterministic_mode_a_token_has_the_same_bits_prefilled_and_decoded_alone_or_beside_others(
    interpreter,
):
    alone = [[(PROMPT[:24], 0, [0])]]
    later = [[(PROMPT[:23], 0, [0])], [(PROMPT[3:9], 0, [1]), (PROMPT[23:24], 23, [0])]]
    (first,) = interpreter(runs.logits_of_batches, WEIGHTS, True, alone, 2)
    _, second = interpreter(runs.logits_of_batches, WEIGHTS, True, later, 2)
    assert torch.equal(first[0], second[1])


@pytest.mark.parametrize(
    ("deterministic", "weights", "plain"),
    [(False, WEIGHTS, WEIGHTS), (True, *runs.packed_experts())],
    ids=["fast", "deterministic, packed experts"],
)
def test_recorded_steps_have_the_logits_of_the_same_batches_however_the_rows_change(
    interpreter, deterministic, weights, plain
):
    one, two, three = [0, 1], [2], [3]
    # Where no prompt is computed, the same garbage lies in the pages of both models.
    prompts = [[(PROMPT[9:12], 0, three)]]
    steps = [
        [([7], 63, one), ([8], 9, two), ([9], 3, three)],
        [([10], 64, one), ([11], 10, two), ([12], 4, three)],
        [([13], 11, two), ([14], 65, one)],
        [([15], 66, one)],
        [([16], 5, three), ([17], 12, two)],
    ]
    found = interpreter(runs.logits_of_graphs, weights, deterministic, [*prompts, *steps], 4)
    expected, _ = torch_logits(plain, [*prompts, *steps], 4)
    for ours, theirs in zip(found, expected, strict=True):
        check_near(ours, theirs)


def test_given_embeddings_replace_those_of_their_tokens(interpreter):
    rows = WEIGHTS["model.embed_tokens.weight"][[6, 7]]
    given = [[([5, 0, 0, 8], 0, [0], ((1, rows),))]]
    (found,) = interpreter(runs.logits_of_batches, WEIGHTS, False, given, 1)
    (expected,), _ = torch_logits(WEIGHTS, [[([5, 6, 7, 8], 0, [0])]], 1)
    check_near(found, expected)


def test_layers_are_announced_in_order_and_a_batch_may_ask_for_no_logits(interpreter):
    announced, shape = interpreter(runs.announcements, WEIGHTS)
    assert announced == [0, 1]
    assert shape == (0, runs.CONFIG.vocab_size)


def test_an_int4_checkpoint_is_loaded_packed(interpreter, small, tmp_path):
    write_random_checkpoint(tmp_path, with_int4(small), seed=5)
    found = interpreter(runs.logits_of_checkpoint, tmp_path, [5, 900, 77])
    model = load_text_model(tmp_path, True)
    runner = make_runner(model, 1)
    check_near(found[0], whole(runner, [5, 900, 77], [0]))


@pytest.mark.parametrize("whole_attention", [False, True])
def test_ranks_with_pages_of_their_own_compute_what_one_process_does(interpreter, small_dir, whole_attention):
    prompts = [[(7 * place + seed) % 1000 for place in range(length)] for seed, length in ((1, 3), (2, 6))]
    expected, found = interpreter(runs.logits_of_group, small_dir, prompts, whole_attention)
    assert len(found) == 8
    for ours, theirs in zip(found, expected, strict=True):
        check_near(ours, theirs)


@pytest.mark.parametrize("whole_attention", [True, False])
def test_recorded_steps_of_ranks_have_the_logits_of_one_process(small_dir, tmp_path, whole_attention):
    one, two, three = [0], [1], [2]
    batches = [
        [(PROMPT[:20], 0, one), (PROMPT[:3], 0, two), (PROMPT[9:12], 0, three)],
        [([7], 20, one), ([8], 3, two), ([9], 3, three)],
        [([13], 4, two), ([14], 21, one)],
        [([15], 22, one)],
    ]
    model = load_text_model(small_dir, False)
    runner = make_runner(model, 4)
    expected = [runner.forward(batch_of(list(map(runs.item_of, batch)))).clone() for batch in batches]
    ranks = Interpreter(), Interpreter()
    try:
        for rank in ranks:
            rank(len, [])  # started before there are two threads that set their environment
        with ThreadPoolExecutor(2) as together:
            found = [
                together.submit(
                    rank, runs.steps_of_rank, small_dir, tmp_path / "meeting", index, whole_attention, batches
                )
                for index, rank in enumerate(ranks)
            ]
            logits = [rank.result() for rank in found]
    finally:
        for rank in ranks:
            rank.close()
    for step, ours in enumerate(zip(*logits, strict=True)):
        assert torch.equal(*ours)
        check_near(ours[0], expected[step])
