"""The reader's side of a lease."""

from __future__ import annotations

from perigee.v1 import vision_pb2
from services.engine.leases.lease_clock import LeaseClock
from tests.support.manual_clock import ManualClock


def granted(clock: ManualClock) -> LeaseClock:
    lease = LeaseClock(clock)
    clock.now += 1.0  # the answer takes a second: it does not lengthen the lease
    lease.granted(vision_pb2.LeaseGrant(lease_id=1, generation=1, duration_ms=10_000))
    return lease


def test_the_deadline_counts_from_sending_the_request_less_a_margin():
    clock = ManualClock(100.0)
    lease = granted(clock)
    assert lease.deadline == 109.0
    clock.now = 108.9
    assert not lease.expired
    clock.now = 109.0
    assert lease.expired


def test_an_unanswered_renewal_moves_nothing_and_an_answered_one_counts_from_its_sending():
    clock = ManualClock(100.0)
    lease = granted(clock)
    clock.now = 104.0
    lease.renewal_sent()
    assert lease.deadline == 109.0
    clock.now = 108.0
    lease.renewed()
    assert lease.deadline == 113.0


def test_a_lease_without_a_grant_is_expired():
    assert LeaseClock(ManualClock(100.0)).expired


def test_a_renewal_is_due_after_a_third_of_the_duration_or_the_limit_given():
    clock = ManualClock(100.0)
    lease = granted(clock)
    clock.now = 103.0
    assert not lease.renewal_due(60)
    assert lease.renewal_due(2.0)
    clock.now = 103.4
    assert lease.renewal_due(60)
    lease.renewal_sent()
    assert not lease.renewal_due(60)
