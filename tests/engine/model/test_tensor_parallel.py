"""Several processes that share a model's weights generate what one process with all of them does."""

from __future__ import annotations

import os

import numpy as np
import pytest

from services.common.errors import ConfigError
from services.common.model_types import read_config
from services.engine.loading.text import load_text_model
from services.engine.model.rank import Rank
from services.engine.model.tensor_group import NoGroup
from services.engine.weights.random_checkpoint import with_int4, write_random_checkpoint
from tests.engine.text_models import generate, make_runner
from tests.support.nursery import shared_nursery

PROMPT = np.random.default_rng(4).integers(0, 2000, 150)
EPSILON = 1e-4
"""In standard deviations of a row of logits: sums over ranks are added up in another order."""


@pytest.fixture(scope="module")
def int4(nano_dir, tmp_path_factory):
    directory = tmp_path_factory.mktemp("int4")
    write_random_checkpoint(directory, with_int4(read_config(nano_dir / "config.json")), seed=5)
    return directory


def generate_with(ranks, whole, checkpoint, deterministic, directory):
    """Tokens and logits of each rank."""
    np.save(directory / "prompt.npy", PROMPT)
    with (directory / "ranks.log").open("ab") as log:
        processes = [
            shared_nursery().start(
                "tests.engine.model.tensor_rank",
                [str(checkpoint), str(deterministic), str(rank), str(ranks), whole, str(directory)],
                os.environ,
                log,
            )
            for rank in range(ranks)
        ]
    ends = [process.wait(120) for process in processes]
    assert ends == [0] * ranks, (directory / "ranks.log").read_text()
    return [np.load(directory / f"rank-{rank}.npz") for rank in range(ranks)]


@pytest.mark.parametrize(
    ("ranks", "whole", "kind", "deterministic"),
    [
        (2, "", "bf16", True),
        (4, "", "bf16", True),
        (4, "", "bf16", False),
        (2, "", "int4", False),
        (4, "experts", "bf16", True),
        (2, "experts", "int4", False),
        (2, "experts attention", "bf16", False),
    ],
)
def test_all_ranks_generate_the_tokens_of_one_process(
    ranks, whole, kind, deterministic, nano_dir, int4, tmp_path
):
    checkpoint = int4 if kind == "int4" else nano_dir
    model = load_text_model(checkpoint, deterministic)
    tokens, logits = generate(make_runner(model, 8), PROMPT.tolist(), range(8), 24)
    spread = np.std(logits, axis=1, keepdims=True)
    top = np.sort(logits, axis=1)
    assert (top[:, -1] - top[:, -2] > 2 * EPSILON * spread[:, 0]).all(), "choose another prompt"
    found = generate_with(ranks, whole, checkpoint, deterministic, tmp_path)
    for rank in found:
        assert rank["tokens"].tolist() == tokens
        assert (np.abs(rank["logits"] - logits) < EPSILON * spread).all()
        assert (rank["logits"] == found[0]["logits"]).all()
        # all_reduce adds up an element's summands in an order that depends on where in the batch it is.
        assert not deterministic or (rank["alone"] == rank["beside"]).all()


def test_a_model_is_not_split_into_more_ranks_than_it_has_heads(nano_dir):
    group = NoGroup()
    group.rank = Rank(0, 8)
    with pytest.raises(ConfigError, match=r"8 ranks does not divide .*b_proj"):
        load_text_model(nano_dir, True, group=group)


def test_with_whole_attention_a_model_has_more_ranks_than_heads(nano_dir):
    group = NoGroup()
    group.rank = Rank(0, 8, whole_experts=True, whole_attention=True)
    assert load_text_model(nano_dir, True, group=group).config.num_attention_heads == 4


def test_experts_are_dealt_whole_or_not_at_all(nano_dir):
    group = NoGroup()
    group.rank = Rank(0, 16, whole_experts=True, whole_attention=True)
    with pytest.raises(ConfigError, match="16 ranks does not divide 8 experts"):
        load_text_model(nano_dir, True, group=group)
