"""Scores of rows of logits, on the host and where the logits are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from services.engine.sampling import scoring_pass as scoring_module
from services.engine.sampling.row_logits import token_logprobs
from services.engine.sampling.scores import Scores, Scoring, joined
from services.engine.sampling.scoring_pass import ScoringPass, scoring_pass

VOCAB = 500


@dataclass(eq=False)
class Prompt:
    """What a pass scores of a prompt."""

    context: list[int]
    scoring: Scoring | None

    def targets(self, start: int, end: int) -> list[int]:
        return [] if self.scoring is None else list(self.scoring.targets(self.context, start, end))


def logits_of(rows: int, seed: int = 0) -> torch.Tensor:
    """With many ties."""
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)).mul(8).round().div(2)


def prompt_of(length: int, first: int, top: int) -> Prompt:
    return Prompt([(place * 37 + 11) % VOCAB for place in range(length)], Scoring(first, top))


def check(scores: Scores, logits: torch.Tensor, targets: list[int], top: int) -> None:
    """By torch, all at once."""
    table = logits.double().log_softmax(-1)
    chosen = torch.tensor(targets)[:, None]
    np.testing.assert_allclose(scores.logprobs, table.gather(1, chosen)[:, 0], rtol=1e-6)
    order = torch.sort(logits, dim=-1, descending=True, stable=True).indices
    assert scores.ranks.tolist() == ((order == chosen).int().argmax(1) + 1).tolist()
    assert scores.top_ids.tolist() == order[:, :top].tolist()
    np.testing.assert_allclose(scores.top_logprobs, table.gather(1, order[:, :top]), rtol=1e-6)


@pytest.fixture(params=["host", "device"])
def place(request, monkeypatch):
    """Where rows are scored; both run on the CPU."""
    if request.param == "device":
        monkeypatch.setattr(scoring_module, "_on_host", scoring_module._on_device)
    return request.param


@pytest.mark.parametrize("slices", [(7,), (1, 6), (3, 3, 1)])
def test_rows_are_scored_as_by_log_softmax_however_they_are_sliced(place, slices):
    prompts = [prompt_of(10, 1, 3), prompt_of(10, 8, 0), Prompt([1, 2, 3], None), prompt_of(10, 1, 20)]
    chunks = [(prompts[0], 2, 5), (prompts[1], 5, 9), (prompts[2], 0, 2), (prompts[3], 0, 2)]
    scoring = scoring_pass(chunks)
    logits = logits_of(7)
    for part in logits.split(list(slices)):
        scoring.take(part)
    found = scoring.results()
    assert [owner for owner, _ in found] == [prompts[0], prompts[1], prompts[3]]
    assert [scores.first for _, scores in found] == [3, 8, 1]
    check(found[0][1], logits[:3], prompts[0].context[3:6], 3)
    check(found[1][1], logits[3:5], prompts[1].context[8:10], 0)
    check(found[2][1], logits[5:], prompts[3].context[1:3], 20)


def test_a_score_has_the_bits_of_the_log_probability_of_a_generated_token():
    prompt, logits = prompt_of(41, 1, 5), torch.randn(40, VOCAB)
    scoring = scoring_pass([(prompt, 0, 40)])
    scoring.take(logits)
    [(_, scores)] = scoring.results()
    for row, target in enumerate(prompt.context[1:]):
        logprob, top = token_logprobs(logits[row].numpy(), target, 5)
        assert scores.logprobs[row] == np.float32(logprob)
        assert [(i, np.float32(value)) for i, value in top] == list(
            zip(scores.top_ids[row].tolist(), scores.top_logprobs[row], strict=True)
        )


def test_nothing_is_scored_where_nothing_is_asked_or_all_lies_before_the_first():
    assert scoring_pass([]) is None
    assert scoring_pass([(Prompt([1, 2, 3], None), 0, 2), (prompt_of(9, 6, 1), 0, 5)]) is None
    assert isinstance(scoring_pass([(prompt_of(9, 5, 1), 0, 5)]), ScoringPass)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_without_a_usable_value_make_scores_that_are_not_usable(place, value):
    logits = logits_of(3)
    logits[1, 7] = value
    scoring = scoring_pass([(prompt_of(4, 1, 2), 0, 3)])
    scoring.take(logits)
    [(_, scores)] = scoring.results()
    assert not scores.is_usable
    assert scores.rows(0, 1, 2).is_usable


def test_pieces_join_to_the_whole_and_survive_the_wire():
    prompt = prompt_of(3001, 1, 4)
    scoring = scoring_pass([(prompt, 0, 3000)])
    scoring.take(logits_of(3000))
    [(_, scores)] = scoring.results()
    pieces = list(scores.pieces())
    assert len(pieces) > 1
    again = joined([Scores.from_proto(piece.to_proto()) for piece in pieces])
    assert again.first == scores.first
    for name, column in list(vars(scores).items())[1:]:
        assert np.array_equal(getattr(again, name), column), name
