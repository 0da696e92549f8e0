import random
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import InternalError
from services.common.page_hash import MediaSpan, chain_hashes

CAT, DOG = b"c" * 32, b"d" * 32


def test_only_whole_pages_are_hashed():
    assert [len(chain_hashes(range(n))) for n in (0, 63, 64, 127, 128, 1000)] == [0, 0, 1, 1, 2, 15]


def test_a_hash_has_16_bytes():
    assert {len(page_hash) for page_hash in chain_hashes(range(640))} == {16}


def test_equal_prefixes_have_equal_hashes():
    tokens = list(range(640))
    assert chain_hashes(tokens)[:5] == chain_hashes([*tokens[:320], *range(5000, 5320)])[:5]


def test_a_changed_token_changes_its_page_and_all_behind_it():
    tokens = list(range(640))
    changed = tokens.copy()
    changed[200] += 1
    pairs = list(zip(chain_hashes(tokens), chain_hashes(changed), strict=True))
    assert [a == b for a, b in pairs] == [True] * 3 + [False] * 7


def test_equal_pages_at_different_places_differ():
    hashes = chain_hashes([7] * 640)
    assert len(set(hashes)) == 10


def test_the_salt_separates_caches():
    tokens = list(range(128))
    assert not set(chain_hashes(tokens, salt="a")) & set(chain_hashes(tokens, salt="b"))
    assert chain_hashes(tokens, salt="") == chain_hashes(tokens)


def test_different_images_give_different_pages_from_their_first_pad_on():
    tokens = [1] * 100 + [9] * 50 + [2] * 106
    cat = chain_hashes(tokens, [MediaSpan(CAT, 100, 50)])
    dog = chain_hashes(tokens, [MediaSpan(DOG, 100, 50)])
    assert [a == b for a, b in zip(cat, dog, strict=True)] == [True, False, False, False]


def test_a_medium_counts_instead_of_the_ids_of_its_pads():
    media = [MediaSpan(CAT, 10, 100)]
    assert chain_hashes([1] * 10 + [9] * 100 + [2] * 18, media) == chain_hashes(
        [1] * 10 + [8] * 100 + [2] * 18, media
    )


def test_pads_with_and_without_a_medium_differ():
    assert chain_hashes([0] * 64) != chain_hashes([0] * 64, [MediaSpan(CAT, 0, 64)])


def test_the_place_inside_the_medium_counts():
    one_large = chain_hashes([9] * 128, [MediaSpan(CAT, 0, 128)])
    two_small = chain_hashes([9] * 128, [MediaSpan(CAT, 0, 64), MediaSpan(CAT, 64, 64)])
    assert [a == b for a, b in zip(one_large, two_small, strict=True)] == [True, False]


def test_the_length_of_a_medium_that_leaves_the_page_does_not_count_in_that_page():
    short = chain_hashes([9] * 192, [MediaSpan(CAT, 0, 100)])
    long = chain_hashes([9] * 192, [MediaSpan(CAT, 0, 180)])
    assert [a == b for a, b in zip(short, long, strict=True)] == [True, False, False]


def test_media_may_come_in_any_order():
    media = [MediaSpan(DOG, 70, 5), MediaSpan(CAT, 3, 20)]
    assert chain_hashes(range(128), media) == chain_hashes(range(128), media[::-1])


@pytest.mark.parametrize(
    "media",
    [
        [MediaSpan(CAT, 0, 10), MediaSpan(DOG, 9, 10)],
        [MediaSpan(CAT, -1, 10)],
        [MediaSpan(CAT, 60, 5)],
        [MediaSpan(CAT, 5, 0)],
    ],
)
def test_media_that_overlap_or_leave_the_sequence_are_a_defect(media):
    with pytest.raises(InternalError, match="media"):
        chain_hashes(range(64), media)


def test_knowing_more_pages_than_there_are_is_a_defect():
    with pytest.raises(InternalError, match="known"):
        chain_hashes(range(100), known=chain_hashes(range(128)))


def test_page_size_is_a_parameter():
    assert len(chain_hashes(range(64), page_tokens=16)) == 4


def test_the_hash_is_the_documented_one():
    seed = blake2b(b"salt", digest_size=16).digest()
    page = b"".join(token.to_bytes(4, "little") for token in range(1000, 1064))
    assert chain_hashes(range(1000, 1064), salt="salt") == [blake2b(seed + page, digest_size=16).digest()]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 400), min_size=1, max_size=6))
def test_hashing_as_tokens_come_equals_hashing_at_once(seed, steps):
    draw = random.Random(seed)
    total = sum(steps)
    tokens = [draw.randrange(200_000) for _ in range(total)]
    cut = draw.randrange(total + 1)
    media = [MediaSpan(CAT, cut // 2, cut - cut // 2)] if cut else []
    hashes: list[bytes] = []
    length = cut
    for step in steps:
        length = min(total, length + step)
        hashes = chain_hashes(tokens[:length], media, "s", known=hashes)
    assert chain_hashes(tokens, media, "s", known=hashes) == chain_hashes(tokens, media, "s")
