from __future__ import annotations

import pytest

from training.nano.bpe import byte_order, count_pieces, learn_ranks


def merges(documents, count):
    return learn_ranks(documents, 256 + count)[256:]


def test_the_most_frequent_pair_is_merged_first():
    assert merges(["abc", "bcd", "bc", "xy", "xy"], 2) == [b"bc", b"xy"]


def test_merges_build_on_merges():
    assert merges(["aaaa aaaa"], 2)[:2] == [b"aa", b"aaaa"]


def test_equal_pairs_are_merged_in_order():
    assert merges(["xy", "xy", "ab", "ab"], 2) == [b"ab", b"xy"]


def test_digits_are_never_merged():
    with pytest.raises(ValueError, match="too few pairs"):
        merges(["111 111 111 222"], 1)


def test_nothing_is_merged_across_pre_tokens():
    assert count_pieces(["Hello world's 12345 a\n"]) == {
        b"Hello": 1,
        b" world's": 1,
        b" ": 1,
        b" a": 1,
        b"\n": 1,
    }


def test_han_and_latin_letters_are_apart():
    assert set(count_pieces(["ab你好cd"])) == {b"ab", "你好".encode(), b"cd"}


def test_single_bytes_are_in_the_published_order():
    order = byte_order()
    assert sorted(order) == [bytes((byte,)) for byte in range(256)]
    # From the published file: "!" is 0, "~" 93, NUL 188, newline 198, space 220.
    assert [order[rank] for rank in (0, 93, 188, 198, 220)] == [b"!", b"~", b"\x00", b"\n", b" "]
