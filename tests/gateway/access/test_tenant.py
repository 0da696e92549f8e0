"""The limits of one key."""

import pytest

from services.common.errors import RateLimited
from services.common.fairness.share import largest_share, within_share
from services.gateway.access.gatekeeper import Gatekeeper
from services.gateway.access.tenant import Tenant
from services.gateway.access.usage import Usage
from services.gateway.access.usage_store import UsageStore
from tests.gateway.access.keys import made_key
from tests.support.manual_clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock(60_000.0)


@pytest.fixture
def tenant(clock):
    """Makes a tenant with limits."""
    return lambda **limits: Tenant(made_key(**limits)[1], Usage(clock=clock))


def test_a_key_without_limits_is_never_limited(tenant):
    free = tenant()
    for _ in range(1000):
        free.enter()
    free.take_prompt(10**9)


def test_at_its_concurrency_a_key_waits_for_one_of_its_requests_to_end(tenant):
    two = tenant(max_concurrent=2)
    two.enter()
    two.enter()
    with pytest.raises(RateLimited, match="2 requests in flight"):
        two.enter()
    two.leave()
    two.enter()


def test_at_its_requests_per_minute_a_key_is_told_when_to_come_back(tenant, clock):
    three = tenant(requests_per_minute=3)
    for _ in range(3):
        three.enter()
        three.leave()
    with pytest.raises(RateLimited) as caught:
        three.enter()
    clock.now += caught.value.retry_after_s + 0.001
    three.enter()


def test_a_refused_request_uses_up_nothing(tenant, clock):
    limited = tenant(requests_per_minute=1)
    limited.enter()
    for _ in range(50):
        with pytest.raises(RateLimited):
            limited.enter()
    assert limited.inside == 1
    clock.now += 121
    limited.enter()


def test_prompts_count_at_once_and_answers_as_they_are_made(tenant, clock):
    limited = tenant(tokens_per_minute=100)
    limited.enter()
    limited.take_prompt(60)
    with pytest.raises(RateLimited, match="100 tokens in a minute"):
        limited.take_prompt(50)
    limited.take_generated(60)  # what runs is never cut
    with pytest.raises(RateLimited) as caught:
        limited.enter()
    clock.now += caught.value.retry_after_s + 0.001
    limited.enter()


def test_a_prompt_longer_than_the_whole_limit_is_refused_by_its_length(tenant):
    with pytest.raises(RateLimited, match="the prompt has 101 tokens; this API key may use 100"):
        tenant(tokens_per_minute=100).take_prompt(101)


def test_its_number_for_workers_follows_from_the_label_and_says_nothing_of_the_key(tenant):
    assert tenant(label="a").id == tenant(label="a").id != tenant(label="b").id
    assert 0 < tenant(label="a").id < 1 << 64


def test_a_changed_file_keeps_what_a_label_has_used():
    key, record = made_key(max_concurrent=1)
    gatekeeper = Gatekeeper([record], UsageStore())
    gatekeeper.caller(key, "chat").enter()
    other, changed = made_key(max_concurrent=1)
    gatekeeper.replace([changed])
    with pytest.raises(RateLimited):
        gatekeeper.caller(other, "chat").enter()


def test_metrics_know_a_hundred_labels_and_call_all_others_by_one_name():
    made = [made_key(f"team-{number}") for number in range(130)]
    gatekeeper = Gatekeeper([record for _, record in made])
    shown = {gatekeeper.caller(key, "chat").shown for key, _ in made}
    assert len(shown) == 101
    assert "other" in shown
    gatekeeper.replace([record for _, record in made[120:]])
    assert {gatekeeper.caller(key, "chat").shown for key, _ in made[120:]} == {"other"}


def held_by(weights, limit, rounds=20_000):
    """What tenants come to hold who always ask for as much as they may, while what they have ends."""
    held = dict.fromkeys(range(len(weights)), 0)
    for turn in range(rounds):
        who = turn % len(weights)
        if turn % 3 == 0 and held[who]:
            held[who] -= 1
        while within_share(held[who], weights[who], limit - sum(held.values())):
            held[who] += 1
    return list(held.values())


def test_one_tenant_alone_gets_three_quarters_and_two_at_once_three_sevenths_each():
    assert held_by([1], 512) == [384]
    assert held_by([1, 1], 512) == pytest.approx([219, 219], abs=2)


def test_however_many_ask_something_is_left_for_the_next_one_and_weights_count():
    shares = held_by([1] * 20, 512)
    assert 0 < 512 - sum(shares) < 20
    assert within_share(0, 1, 512 - sum(shares))
    heavy, light = held_by([10, 1], 512)
    assert heavy > 5 * light > 0


@pytest.mark.parametrize("limit", [1, 2, 8, 512])
@pytest.mark.parametrize("weight", [1, 10])
def test_the_largest_share_is_what_one_alone_comes_to_hold(limit, weight):
    assert held_by([weight], limit, rounds=1) == [largest_share(weight, limit)]
