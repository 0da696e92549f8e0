"""Who comes next where several tenants wait."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from services.engine.scheduler.fair_line import FairLine
from services.engine.scheduler.priority_line import PriorityLine


@dataclass(frozen=True)
class Item:
    name: str
    tenant: int = 0
    priority: int = 0
    weight: int = 1


def drained(line, cost=1.0):
    """Names in the order in which items leave, each charged."""
    names = []
    while line:
        item = line.first()
        line.remove(item)
        line.charge(item, cost)
        names.append(item.name)
    return names


@pytest.mark.parametrize("tenant", [0, 7])
@pytest.mark.parametrize("seed", range(20))
def test_one_tenant_alone_has_exactly_the_order_of_a_priority_line(seed, tenant):
    rng = random.Random(seed)
    fair, plain = FairLine(), PriorityLine()
    for number in range(200):
        item = Item(str(number), tenant, rng.randint(-2, 2))
        move = rng.random()
        if move < 0.5:
            fair.append(item)
            plain.append(item)
        elif move < 0.7:
            fair.append_front(item)
            plain.append_front(item)
        elif plain:
            gone = rng.choice(list(plain))
            fair.remove(gone)
            plain.remove(gone)
            fair.charge(gone, rng.randint(1, 1000))
        assert list(fair) == list(plain)
        assert len(fair) == len(plain)
        assert not plain or fair.first() is plain.first()


def test_a_flood_delays_another_tenant_by_one_item():
    line = FairLine()
    for number in range(50):
        line.append(Item(f"flood-{number}", tenant=1))
    first = line.first()
    line.remove(first)
    line.charge(first, 1)
    line.append(Item("other", tenant=2))
    assert drained(line)[0] == "other"


def test_a_priority_counts_among_a_tenants_own_items_only():
    line = FairLine()
    for number in range(4):
        line.append(Item(f"a{number}", tenant=1, priority=1000))
    for number in range(2):
        line.append(Item(f"b{number}", tenant=2, priority=number))
    assert drained(line) == ["a0", "b1", "a1", "b0", "a2", "a3"]


def test_large_items_cost_their_tenant_turns_and_weights_give_more():
    line = FairLine()
    for _ in range(150):
        line.append(Item("large", tenant=1))
        line.append(Item("small", tenant=2))
        line.append(Item("heavy", tenant=3, weight=2))
    counts = {"large": 0, "small": 0, "heavy": 0}
    for _ in range(200):
        item = line.first()
        line.remove(item)
        line.charge(item, 4 if item.name == "large" else 1)
        counts[item.name] += 1
    assert counts["heavy"] == pytest.approx(2 * counts["small"], abs=4)
    assert counts["small"] == pytest.approx(4 * counts["large"], abs=6)


def test_what_is_not_in_the_queue_cannot_be_removed():
    line = FairLine()
    line.append(Item("a"))
    for gone in (Item("b"), Item("c", tenant=3)):
        with pytest.raises(ValueError, match="not in"):
            line.remove(gone)
    assert line.count(0) == len(line) == 1
