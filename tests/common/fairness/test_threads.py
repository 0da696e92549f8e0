"""Tenants share threads and places."""

from __future__ import annotations

import threading
import time

import pytest

from services.common.errors import Overloaded
from services.common.fairness.places import Places
from services.common.fairness.threads import FairThreads


class Room:
    """One thread, which begins with the jobs when all of them have been submitted."""

    def __init__(self):
        self.threads = FairThreads(1, "room")
        self.done = []
        self._open = threading.Event()
        self._held = self.threads.submit(self._open.wait)

    def submit(self, name, tenant, weight=1, work_s=0.0):
        def work():
            end = time.thread_time() + work_s
            while time.thread_time() < end:
                pass
            self.done.append(name)

        return self.threads.submit(work, (tenant, weight))

    def run(self, futures):
        self._open.set()
        for future in futures:
            future.result(30)
        self.threads.close()
        return self.done


def test_a_crowd_of_one_tenant_delays_another_by_one_job_and_comes_in_its_order():
    room = Room()
    crowd = [room.submit(f"crowd {number}", 1, work_s=0.002) for number in range(4)]
    other = room.submit("other", 2)
    done = room.run([*crowd, other])
    assert "other" in done[:2]
    assert [name for name in done if name != "other"] == [f"crowd {number}" for number in range(4)]


def test_long_jobs_of_one_tenant_count_for_more_than_short_ones_of_another():
    room = Room()
    long = [room.submit("long", 1, work_s=0.02) for _ in range(3)]
    short = [room.submit("short", 2, work_s=0.001) for _ in range(3)]
    assert room.run([*long, *short])[1:4] == ["short"] * 3


def test_a_tenant_with_more_weight_gets_more_turns():
    room = Room()
    light = [room.submit("light", 1, 1, work_s=0.004) for _ in range(6)]
    heavy = [room.submit("heavy", 2, 4, work_s=0.004) for _ in range(6)]
    assert room.run([*light, *heavy])[:7].count("heavy") >= 4


def test_a_failure_is_in_the_future_and_the_thread_goes_on():
    room = Room()
    failed = room.threads.submit(lambda: 1 / 0)
    fine = room.submit("fine", 1)
    assert room.run([fine]) == ["fine"]
    with pytest.raises(ZeroDivisionError):
        failed.result(30)


def test_what_is_cancelled_in_time_is_not_done():
    room = Room()
    unwanted, wanted = room.submit("unwanted", 1), room.submit("wanted", 1)
    assert unwanted.cancel()
    assert room.run([wanted]) == ["wanted"]


def test_closing_drops_what_has_not_begun():
    room = Room()
    dropped = room.submit("dropped", 1)
    room.threads.close()
    room._open.set()
    room._held.result(30)
    with pytest.raises(RuntimeError):
        room.submit("late", 1)
    assert not dropped.done()
    assert room.done == []


def test_all_places_may_be_taken_by_those_who_are_nobody_in_particular():
    places = Places(3, "things wait")
    for _ in range(3):
        places.take()
    with pytest.raises(Overloaded, match="3 things wait"):
        places.take()
    places.leave()
    places.take()


def test_a_tenant_has_its_share_of_the_places_and_others_find_room():
    places = Places(8, "things wait")
    for _ in range(6):
        places.take((1, 1))
    with pytest.raises(Overloaded, match="6, the share of this API key"):
        places.take((1, 1))
    places.take((2, 1))
    places.leave((1, 1))
    places.leave((1, 1))
    with places.taken((1, 1)), pytest.raises(ZeroDivisionError), places.taken((2, 1)):
        raise ZeroDivisionError
    places.take((2, 1))
