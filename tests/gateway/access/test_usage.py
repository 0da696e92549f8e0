"""What a key uses, counted over several processes."""

import mmap

import pytest

from services.gateway.access.usage import ROW_BYTES, Kind, Usage
from services.gateway.access.usage_store import UsageStore
from tests.support.manual_clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock(60_000.0)  # a fixed minute begins


@pytest.fixture
def usage(clock):
    return Usage(clock=clock)


def test_up_to_the_limit_nothing_waits_and_one_more_waits_until_it_fits(usage, clock):
    for _ in range(10):
        assert usage.wait_s(Kind.REQUESTS, 1, 10) == 0
        usage.add(Kind.REQUESTS, 1)
    wait_s = usage.wait_s(Kind.REQUESTS, 1, 10)
    assert wait_s == pytest.approx(60 + 6)  # the next fixed minute, and a tenth of it
    clock.now += wait_s + 1e-6
    assert usage.wait_s(Kind.REQUESTS, 1, 10) == 0
    usage.add(Kind.REQUESTS, 1)
    assert usage.wait_s(Kind.REQUESTS, 1, 10) == pytest.approx(6, abs=1e-3)


def test_a_steady_caller_gets_its_limit_in_any_minute(usage, clock):
    admitted = []
    for tick in range(4 * 600):
        clock.now = 60_000.0 + tick / 10
        if not usage.wait_s(Kind.REQUESTS, 1, 60):
            usage.add(Kind.REQUESTS, 1)
            admitted.append(clock.now)
    for begin in range(60_060, 60_180, 7):
        assert 50 <= sum(begin <= moment < begin + 60 for moment in admitted) <= 66


def test_after_two_quiet_minutes_nothing_is_left(usage, clock):
    usage.add(Kind.TOKENS, 500)
    clock.now += 120
    assert usage.wait_s(Kind.TOKENS, 500, 500) == 0
    usage.add(Kind.TOKENS, 1)
    assert usage.wait_s(Kind.TOKENS, 499, 500) == 0
    assert usage.wait_s(Kind.TOKENS, 500, 500) > 0


def test_more_than_the_whole_limit_fits_when_nothing_else_is_left(usage, clock):
    assert usage.wait_s(Kind.TOKENS, 700, 500) == 0
    usage.add(Kind.TOKENS, 1)
    wait_s = usage.wait_s(Kind.TOKENS, 700, 500)
    assert wait_s == pytest.approx(120)


def test_requests_and_tokens_are_counted_apart(usage):
    usage.add(Kind.TOKENS, 100)
    assert usage.wait_s(Kind.REQUESTS, 1, 1) == 0
    usage.add(Kind.REQUESTS, 1)
    assert usage.wait_s(Kind.TOKENS, 1, 101) == 0


@pytest.fixture
def shared(tmp_path, clock):
    """Two processes' counts of one key, in a file that both have mapped."""
    return [UsageStore(tmp_path / "usage", own, 2, clock).of("team") for own in range(2)]


def test_processes_that_share_a_file_count_together(shared):
    first, second = shared
    first.enter()
    second.enter()
    second.enter()
    assert (first.in_flight, second.in_flight) == (3, 3)
    assert (first.own_in_flight, second.own_in_flight) == (1, 2)
    first.add(Kind.REQUESTS, 4)
    second.add(Kind.REQUESTS, 5)
    assert first.wait_s(Kind.REQUESTS, 1, 10) == 0
    assert first.wait_s(Kind.REQUESTS, 2, 10) > 0


def test_what_a_process_counted_ages_though_another_one_counts_on(shared, clock):
    first, second = shared
    first.add(Kind.REQUESTS, 9)
    clock.now += 60
    second.add(Kind.REQUESTS, 1)
    assert first.wait_s(Kind.REQUESTS, 1, 10) > 0
    clock.now += 60
    second.add(Kind.REQUESTS, 1)
    assert second.wait_s(Kind.REQUESTS, 8, 10) == 0


def test_a_process_that_died_leaves_its_minute_and_nothing_in_flight(tmp_path, clock):
    dead = UsageStore(tmp_path, 0, 2, clock).of("team")
    dead.enter()
    dead.add(Kind.REQUESTS, 7)
    reborn = UsageStore(tmp_path, 0, 2, clock).of("team")
    assert reborn.in_flight == 0
    assert reborn.wait_s(Kind.REQUESTS, 3, 10) == 0
    assert reborn.wait_s(Kind.REQUESTS, 4, 10) > 0


def test_a_key_made_anew_while_a_request_of_the_old_one_runs_keeps_its_counts(tmp_path, clock):
    store = UsageStore(tmp_path, 0, 1, clock)
    running = store.of("team")
    running.enter()
    assert store.of("team") is running
    running.leave()
    assert running.in_flight == 0


def test_keys_do_not_share_counts(tmp_path, clock):
    store = UsageStore(tmp_path, 0, 1, clock)
    store.of("one").enter()
    assert store.of("two").in_flight == 0
    assert {each.name: each.stat().st_size for each in tmp_path.iterdir()} == {"one": 64, "two": 64}


def test_memory_of_other_processes_is_read_and_never_written(clock):
    memory = mmap.mmap(-1, 3 * ROW_BYTES)
    memory[:ROW_BYTES] = b"\x01" * ROW_BYTES
    before = memory[:ROW_BYTES], memory[2 * ROW_BYTES :]
    usage = Usage(memoryview(memory), 1, clock)
    usage.enter()
    usage.add(Kind.TOKENS, 5)
    usage.leave()
    assert (memory[:ROW_BYTES], memory[2 * ROW_BYTES :]) == before
