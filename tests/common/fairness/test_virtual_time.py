"""Whose turn it is."""

import pytest

from services.common.fairness import virtual_time
from services.common.fairness.virtual_time import VirtualTime


def served(time, weights, turns):
    """Serves so many turns; returns how often each tenant had one."""
    counts = dict.fromkeys(weights, 0)
    for _ in range(turns):
        tenant = time.next()
        time.charge(tenant, weights[tenant], 1)
        counts[tenant] += 1
    return counts


def test_tenants_that_wait_all_the_time_are_served_by_weight():
    time, weights = VirtualTime(), {1: 1, 2: 3, 3: 1}
    for tenant in weights:
        time.wait(tenant)
    assert served(time, weights, 500) == {1: 100, 2: 300, 3: 100}


def test_who_comes_late_is_next_and_has_saved_nothing_up():
    time = VirtualTime()
    time.wait(1)
    served(time, {1: 1}, 1000)
    time.wait(2)
    assert time.next() == 2
    assert served(time, {1: 1, 2: 1}, 100)[2] == pytest.approx(50, abs=1)


def test_who_leaves_and_comes_back_has_not_forgotten_what_it_had_ahead_of_the_others():
    time = VirtualTime()
    time.wait(1)
    time.wait(2)
    time.charge(1, 1, 100)
    time.leave(1)
    time.wait(1)
    assert served(time, {1: 1, 2: 1}, 100) == {1: 0, 2: 100}


def test_service_while_a_tenant_does_not_wait_counts_too():
    time = VirtualTime()
    time.wait(2)
    time.charge(1, 1, 10)
    time.wait(1)
    assert time.in_order() == [2, 1]


def test_of_equals_the_one_that_has_waited_longest_is_next():
    time = VirtualTime()
    for tenant in (7, 3, 5):
        time.wait(tenant)
    assert time.in_order() == [7, 3, 5]


def test_tenants_that_never_come_back_are_forgotten_in_the_end(monkeypatch):
    monkeypatch.setattr(virtual_time, "_MOST_REMEMBERED", 100)
    time = VirtualTime()
    time.wait(0)
    for tenant in range(1, 1000):
        time.wait(tenant)
        time.charge(tenant, 1, 1000)
        time.leave(tenant)
    assert len(time._had) <= 101
    assert time.next() == 0
