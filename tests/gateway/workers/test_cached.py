from __future__ import annotations

import random

from services.gateway.workers.cached import CacheIndex


def test_prefixes_are_those_that_each_worker_would_count_alone():
    dice = random.Random(3)
    index = CacheIndex()
    members = [index.member() for _ in range(70)]
    for _ in range(30):
        for member in members:
            member.change(
                (dice.randrange(12) for _ in range(dice.randrange(6))),
                (dice.randrange(12) for _ in range(dice.randrange(4))),
            )
        dice.choice(members).clear()
        names = dice.sample(range(12), 8)
        alone = {member.slot: member.prefix(names) for member in members}
        assert index.prefixes(names) == {slot: count for slot, count in alone.items() if count}


def test_a_name_twice_added_or_removed_counts_once():
    index = CacheIndex()
    first, second = index.member(), index.member()
    first.change([1, 1, 2], [])
    first.change([1], [2, 2, 7])
    second.change([2], [])
    assert index.prefixes([1, 2]) == {first.slot: 1}
    assert index.prefixes([2]) == {second.slot: 1}
    assert index.prefixes([]) == {}


def test_the_next_worker_takes_the_slot_of_one_that_has_left_and_nothing_else_of_it():
    index = CacheIndex()
    first, other = index.member(), index.member()
    for member in (first, other):
        member.change([1, 2, 3], [])
    first.close()
    following = index.member()
    first.change([1, 2], [])  # a last report, already on its way
    assert following.slot == first.slot
    assert 1 not in following
    assert index.prefixes([1, 2, 3]) == {other.slot: 3}
