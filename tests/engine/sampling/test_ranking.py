import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.engine.sampling.ranking import first_ranked, likeliest, rank_keys, rank_of

rows = arrays(
    np.float32,
    st.integers(1, 60),
    elements=st.one_of(
        st.sampled_from([0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf"), 1e-45, -1e-45]),
        st.floats(width=32, allow_nan=False),
    ),
)


@settings(deadline=None)
@given(rows, st.integers(1, 80))
def test_tokens_rank_by_logit_then_by_id(row, count):
    expected = sorted(range(len(row)), key=lambda token_id: (-row[token_id], token_id))
    assert first_ranked(rank_keys(row), count).tolist() == expected[:count]


def test_keys_of_equal_logits_differ_by_id_only():
    keys = rank_keys(np.zeros(3, dtype=np.float32))
    assert np.diff(keys).tolist() == [1, 1]


def test_ranking_leaves_row_and_keys_alone():
    row = np.array([1.0, 3.0, 2.0], dtype=np.float32)
    keys = rank_keys(row)
    before = keys.copy()
    first_ranked(keys, 2)
    first_ranked(keys, 3)
    assert keys.tolist() == before.tolist()
    assert row.tolist() == [1.0, 3.0, 2.0]


def test_the_head_of_a_large_vocabulary_is_the_start_of_the_full_order():
    keys = rank_keys(np.random.default_rng(0).normal(size=20_000).astype(np.float32))
    whole = first_ranked(keys, 20_000)
    for count in (1, 50, 2048, 19_999):
        assert first_ranked(keys, count).tolist() == whole[:count].tolist()


@settings(deadline=None)
@given(
    arrays(np.float32, st.integers(1, 700), elements=st.sampled_from([0.0, -0.0, 1.0, -9.0])),
    st.integers(0, 30),
)
def test_the_likeliest_and_each_rank_are_those_of_the_full_order(row, count):
    order = first_ranked(rank_keys(row), len(row)).tolist()
    assert likeliest(row, count).tolist() == order[:count]
    for token_id in range(0, len(row), 7):
        assert order[rank_of(row, token_id) - 1] == token_id


def test_a_row_with_nan_still_gives_as_many_as_were_asked_for():
    row = np.arange(700, dtype=np.float32)
    row[5] = np.nan
    assert len(likeliest(row, 3)) == 3
