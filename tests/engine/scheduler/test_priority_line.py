"""Who comes next."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from services.engine.scheduler.priority_line import PriorityLine


@dataclass(frozen=True)
class Item:
    name: str
    priority: int = 0


def line(*items):
    made = PriorityLine()
    for item in items:
        made.append(item)
    return made


def names(items):
    return "".join(item.name for item in items)


def test_among_equals_it_is_first_come_first_served():
    assert names(line(Item("a"), Item("b"), Item("c"))) == "abc"


def test_a_higher_priority_goes_ahead_of_lower_ones_and_behind_its_equals():
    made = line(Item("a"), Item("b", 5), Item("c", -5), Item("d", 5), Item("e"))
    assert names(made) == "bdaec"
    assert made.first().name == "b"


def test_who_is_put_back_goes_ahead_of_its_equals_alone():
    made = line(Item("a", 5), Item("b"), Item("c", -5))
    made.append_front(Item("d"))
    made.append_front(Item("e", -5))
    made.append_front(Item("f", 9))
    assert names(made) == "fadbec"


def test_who_leaves_is_gone():
    gone = Item("b")
    made = line(Item("a"), gone, Item("c"))
    made.remove(gone)
    assert (names(made), len(made), gone in made) == ("ac", 2, False)
    with pytest.raises(ValueError, match="not in list"):
        made.remove(gone)


def test_equals_keep_their_order_between_higher_and_lower_ones():
    assert names(line(Item("a"), Item("b", 1), Item("c"), Item("d", 1))) == "bdac"
