from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from services.engine.sampling.token_counts import TokenCounts


@settings(deadline=None)
@given(st.lists(st.integers(0, 300), max_size=400), st.integers(0, 400))
def test_counting_equals_a_plain_counter_whether_at_once_or_one_by_one(token_ids, cut):
    counts = TokenCounts(token_ids[:cut])
    for token_id in token_ids[cut:]:
        counts.add(token_id)
    expected = Counter(token_ids)
    assert counts.ids.tolist() == list(expected)
    assert counts.counts.tolist() == list(expected.values())
