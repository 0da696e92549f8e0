from __future__ import annotations

from services.common.bounded_cache import BoundedCache


def test_what_was_not_used_for_longest_goes_first():
    cache = BoundedCache(2, 100)
    for key in "ab":
        cache.keep(key, key.upper(), 1)
    assert cache.get("a") == "A"
    cache.keep("c", "C", 1)
    assert [cache.get(key) for key in "abc"] == ["A", None, "C"]


def test_bytes_are_bounded_and_counted_down_again():
    cache = BoundedCache(10, 100)
    cache.keep("a", 1, 60)
    cache.keep("b", 2, 60)
    assert (cache.get("a"), cache.get("b")) == (None, 2)
    cache.keep("c", 3, 40)
    assert (cache.get("b"), cache.get("c")) == (2, 3)
    cache.keep("too large", 4, 101)
    assert cache.get("too large") is None


def test_a_key_keeps_its_first_value():
    cache = BoundedCache(2, 100)
    cache.keep("a", 1, 1)
    cache.keep("a", 2, 1)
    assert cache.get("a") == 1
