import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.engine.sampling import draw
from services.engine.sampling.draw import draw_token
from services.engine.sampling.philox import uniform
from services.engine.sampling.spec import SamplingSpec

LAST = 1 - 2.0**-53


def log_row(*probabilities):
    return np.log(np.array(probabilities, dtype=np.float64)).astype(np.float32)


def filtered(row, spec):
    """Exact distribution by the documented rule, written one token at a time."""
    order = sorted(range(len(row)), key=lambda token_id: (-row[token_id], token_id))
    scaled = row.astype(np.float64) / spec.temperature
    weight = np.exp(scaled - scaled.max())
    if spec.top_k:
        order = order[: spec.top_k]
    kept, mass, whole = [], 0.0, sum(weight[token_id] for token_id in order)
    for token_id in order:
        if mass >= spec.top_p * whole and spec.top_p < 1:
            break
        kept.append(token_id)
        mass += weight[token_id]
    kept = [token_id for token_id in kept if weight[token_id] >= spec.min_p * weight[order[0]]]
    probabilities = np.zeros(len(row))
    probabilities[kept] = weight[kept] / sum(weight[token_id] for token_id in kept)
    return probabilities, kept


@pytest.mark.parametrize(
    "spec",
    [
        SamplingSpec(),
        SamplingSpec(temperature=0.5),
        SamplingSpec(temperature=1.7),
        SamplingSpec(top_k=7),
        SamplingSpec(top_p=0.8),
        SamplingSpec(min_p=0.1),
        SamplingSpec(temperature=1.3, top_k=20, top_p=0.9, min_p=0.05),
    ],
)
def test_tokens_come_as_often_as_the_distribution_says(spec):
    row = np.random.default_rng(3).normal(size=40).astype(np.float32)
    exact, _ = filtered(row, spec)
    draws = 6000
    counts = np.bincount([draw_token(row, spec, uniform(11, 2, i)) for i in range(draws)], minlength=40)
    assert not counts[exact == 0].any()
    expected = exact[exact > 0] * draws
    freedom = len(expected) - 1
    statistic = ((counts[exact > 0] - expected) ** 2 / expected).sum()
    assert statistic < freedom + 4 * np.sqrt(2 * freedom) + 4


@settings(deadline=None)
@given(
    seed=st.integers(0, 10_000),
    spec=st.builds(
        SamplingSpec,
        temperature=st.sampled_from([0.3, 1.0, 2.0]),
        top_k=st.integers(0, 30),
        top_p=st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
        min_p=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    ),
    point=st.floats(0, 1, exclude_max=True),
)
def test_a_draw_is_the_inverse_of_the_filtered_distribution(seed, spec, point):
    # Coarse logits have ties, so the order among equals matters.
    row = np.round(np.random.default_rng(seed).normal(size=25) * 4).astype(np.float32) / 4
    probabilities, kept = filtered(row, spec)
    cumulative = np.cumsum(probabilities[kept])
    assume(np.abs(cumulative - point).min() > 1e-9)
    assert draw_token(row, spec, point) == kept[int((cumulative <= point).sum())]


def test_the_token_that_crosses_top_p_is_kept():
    row = log_row(0.5, 0.3, 0.2)
    assert {draw_token(row, SamplingSpec(top_p=0.6), u) for u in (0.0, 0.6, 0.63, LAST)} == {0, 1}
    assert draw_token(row, SamplingSpec(top_p=0.4), LAST) == 0


def test_top_p_applies_to_what_top_k_left():
    row = log_row(0.4, 0.3, 0.2, 0.1)
    assert draw_token(row, SamplingSpec(top_p=0.5), LAST) == 1
    assert draw_token(row, SamplingSpec(top_k=2, top_p=0.5), LAST) == 0


def test_top_k_among_equals_keeps_the_lowest_ids():
    row = np.zeros(10, dtype=np.float32)
    assert {draw_token(row, SamplingSpec(top_k=3), u) for u in np.linspace(0, LAST, 50)} == {0, 1, 2}


def test_one_candidate_needs_no_luck():
    row = np.array([0.0, 5.0, 5.0], dtype=np.float32)
    for spec in (SamplingSpec(top_k=1), SamplingSpec(top_p=1e-6), SamplingSpec(temperature=1e-6, top_k=1)):
        assert {draw_token(row, spec, u) for u in (0.0, 0.5, LAST)} == {1}


@pytest.mark.parametrize(
    "spec", [SamplingSpec(), SamplingSpec(top_k=4), SamplingSpec(top_p=0.999), SamplingSpec(min_p=1e-9)]
)
def test_a_masked_token_is_never_drawn_even_at_the_very_end(spec):
    row = np.array([-np.inf, 1.0, -np.inf, 0.5, -np.inf], dtype=np.float32)
    assert {draw_token(row, spec, u) for u in (0.0, 0.3, LAST)} == {1, 3}


def test_rounding_at_the_very_end_never_reaches_a_masked_token():
    for seed in range(100):
        row = np.random.default_rng(seed).normal(size=300).astype(np.float32)
        row[200:] = -np.inf
        assert draw_token(row, SamplingSpec(), LAST) < 200


@pytest.mark.parametrize(
    "spec",
    [
        SamplingSpec(),
        SamplingSpec(temperature=0.3),
        SamplingSpec(top_p=0.5),
        SamplingSpec(top_p=0.99),
        SamplingSpec(min_p=0.05),
        SamplingSpec(min_p=1e-6),
        SamplingSpec(top_p=0.9, min_p=0.001),
        SamplingSpec(top_k=5000, top_p=0.9),
    ],
)
def test_a_large_vocabulary_gives_the_same_token_whether_sorted_in_part_or_in_full(spec, monkeypatch):
    row = (np.random.default_rng(4).normal(size=20_000) * 2).astype(np.float32)
    points = [*np.linspace(0, 1, 60, endpoint=False).tolist(), LAST]
    quick = [draw_token(row, spec, point) for point in points]
    monkeypatch.setattr(draw, "_HEAD", 20_000)
    assert [draw_token(row, spec, point) for point in points] == quick
    assert len(set(quick)) > 10


def test_most_draws_of_a_peaked_large_vocabulary_sort_only_its_head(monkeypatch):
    sizes = []
    ranked = draw.first_ranked
    monkeypatch.setattr(
        draw, "first_ranked", lambda keys, count: (sizes.append(count), ranked(keys, count))[1]
    )
    row = np.zeros(20_000, dtype=np.float32)
    row[17_000] = 20.0
    assert draw_token(row, SamplingSpec(top_p=0.95), 0.7) == 17_000
    assert draw_token(row, SamplingSpec(), 0.7) == 17_000
    assert sizes == [2048, 2048]
