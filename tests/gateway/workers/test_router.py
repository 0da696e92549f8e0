"""Which workers a request goes to."""

import hashlib
import random
from types import SimpleNamespace

import pytest

from perigee.v1 import worker_pb2
from services.common.errors import Unavailable
from services.common.page_hash import PAGE_TOKENS, short_name
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.pool import DECODE, PREFILL, VISION
from services.gateway.workers.router import NOBODY, PromptPages, Router
from services.gateway.workers.worker import DecodeWorker, Worker

INFO = worker_pb2.WorkerInfo(incarnation="x")
PAGES = tuple(range(100, 110))
PROMPT = PromptPages(len(PAGES) * PAGE_TOKENS + 10, PAGES)


def link(role, address, *, cached=(), pages=1000, **load):
    made = WorkerLink(role, address, channel=FakeChannel())
    if load or cached:
        changes = worker_pb2.CacheChanges(reset=True, added=cached)
        counts = worker_pb2.PageCounts(free=pages)
        made._take_report(INFO, worker_pb2.LoadReport(pages=counts, cache=changes, **load))
    return made


class FakeChannel:
    """Enough for stubs to be made of it."""

    def unary_unary(self, *args, **kwargs):
        return None

    unary_stream = stream_unary = stream_stream = unary_unary


class Pool:
    """Workers of one role."""

    def __init__(self, name, workers):
        self.name = name
        self.configured = f"{name}:1" if workers else ""
        self.workers = tuple(workers)

    def holders(self, names):
        found = {worker: worker.link.cached.prefix(names) for worker in self.serving}
        return {worker: count for worker, count in found.items() if count}

    @property
    def last_restart_s(self):
        return max((worker.link.last_restart_s for worker in self.workers), default=0.0)

    @property
    def serving(self):
        return [worker for worker in self.workers if worker.serving]

    @property
    def missing(self):
        return bool(self.configured) and not self.serving


def router(*, decode=(), prefill=(), vision=(), connected=True):
    session = SimpleNamespace(connected=connected)
    return Router(
        SimpleNamespace(
            decode=Pool("decode", [DecodeWorker(each, session) for each in decode]),
            prefill=Pool("prefill", [Worker(each) for each in prefill]),
            vision=Pool("vision", [Worker(each) for each in vision]),
        )
    )


def decode_choice(*links, avoid=NOBODY, prompt=PROMPT):
    return router(decode=links).decode(prompt, avoid).link.address


def prefill_order(*links, reader=None, prompt=PROMPT):
    reader = reader or link(DECODE, "d:1", running=1)
    return router(prefill=links, decode=[reader]).prefill(prompt, DecodeWorker(reader, None))


def test_the_least_loaded_decode_worker_is_chosen():
    busy, idle = link(DECODE, "busy:1", running=3, waiting=1), link(DECODE, "idle:1", running=2)
    assert decode_choice(busy, idle) == "idle:1"


def failing(made):
    """The same worker after three failures."""
    for _ in range(3):
        made.circuit.failed()
    return made


def test_a_paused_decode_worker_gets_no_request_though_it_is_idle_and_has_the_prompt_cached():
    paused = failing(link(DECODE, "a:1", cached=PAGES))
    assert paused.state == "paused"
    assert decode_choice(paused, link(DECODE, "b:1", running=9)) == "b:1"
    assert decode_choice(paused, link(DECODE, "b:1", running=9), avoid={"b:1": 1}) == "b:1"


def test_if_all_decode_workers_are_paused_the_best_of_them_is_chosen():
    assert (
        decode_choice(failing(link(DECODE, "a:1", running=1)), failing(link(DECODE, "b:1", running=0)))
        == "b:1"
    )


def test_a_paused_vision_worker_is_the_last_choice_even_for_an_image_that_it_has():
    name = hashlib.sha256(b"image").digest()
    paused = failing(link(VISION, "a:1", cached=[short_name(name)]))
    assert [
        each.address for each in router(vision=[paused, link(VISION, "b:1", running=0)]).vision(name)
    ] == [
        "b:1",
        "a:1",
    ]


def test_the_decode_worker_with_the_longest_cached_prefix_is_chosen_among_equally_loaded_ones():
    short, longer = link(DECODE, "a:1", cached=PAGES[:3]), link(DECODE, "b:1", cached=PAGES[:7])
    assert decode_choice(short, longer) == "b:1"


def test_pages_behind_a_gap_are_worth_nothing():
    gap, start = link(DECODE, "a:1", cached=PAGES[1:]), link(DECODE, "b:1", cached=PAGES[:1])
    assert decode_choice(gap, start) == "b:1"


def test_a_much_busier_decode_worker_loses_its_conversation():
    cached, idle = link(DECODE, "a:1", cached=PAGES, running=4), link(DECODE, "b:1", running=0, waiting=1)
    assert decode_choice(cached, idle) == "b:1"
    cached = link(DECODE, "a:1", cached=PAGES, running=2)
    assert decode_choice(cached, idle) == "a:1"


def test_a_decode_worker_without_room_for_the_prompt_is_the_last_choice():
    full = link(DECODE, "a:1", running=1, pages=5)
    assert decode_choice(full, link(DECODE, "b:1", running=9)) == "b:1"
    warm = link(DECODE, "a:1", running=1, pages=5, cached=PAGES[:6])
    assert decode_choice(warm, link(DECODE, "b:1", running=9)) == "a:1"


def test_a_worker_that_failed_the_request_is_taken_only_if_there_is_no_other():
    guilty, busy = link(DECODE, "a:1", running=0, waiting=1), link(DECODE, "b:1", running=50)
    assert decode_choice(guilty, busy, avoid={"a:1": 1}) == "b:1"
    assert decode_choice(guilty, avoid={"a:1": 1}) == "a:1"


def test_where_all_have_failed_the_one_that_did_so_least_often_is_next():
    often, once = link(DECODE, "a:1", running=1), link(DECODE, "b:1", running=50)
    assert decode_choice(often, once, avoid={"a:1": 2, "b:1": 1}) == "b:1"


def test_requests_count_from_when_they_are_sent_until_they_end_whatever_is_reported_meanwhile():
    first, second = link(DECODE, "a:1", running=1), link(DECODE, "b:1", running=2)
    for _ in range(3):
        first.note_sent()
    assert decode_choice(first, second) == "b:1"
    first._take_report(INFO, worker_pb2.LoadReport(running=1, pages=worker_pb2.PageCounts(free=1000)))
    assert first.requests == 3
    assert decode_choice(first, second) == "b:1"
    for _ in range(3):
        first.note_ended()
    assert first.requests == 0
    assert decode_choice(first, second) == "a:1"


def test_of_what_a_worker_reports_others_requests_stay_when_ours_end():
    shared = link(DECODE, "a:1")
    shared.note_sent()
    shared._take_report(INFO, worker_pb2.LoadReport(running=3, waiting=1))
    assert shared.requests == 4
    shared.note_ended()
    assert shared.requests == 3


def test_a_prompt_is_in_the_queue_until_the_next_report():
    first, second = link(PREFILL, "a:1"), link(PREFILL, "b:1", queued_tokens=200)
    first.note_queued(300)
    assert prefill_order(first, second)[0] == "b:1"
    first._take_report(INFO, worker_pb2.LoadReport(queued_tokens=100))
    assert prefill_order(first, second)[0] == "a:1"


def test_workers_that_drain_or_have_left_discovery_are_never_chosen():
    draining, left = link(DECODE, "a:1", draining=True), link(DECODE, "b:1", running=1)
    left.discovered = False
    assert decode_choice(draining, left, link(DECODE, "c:1", running=9)) == "c:1"


def test_a_worker_without_a_session_is_not_chosen():
    with pytest.raises(Unavailable):
        router(decode=[link(DECODE, "a:1", running=1)], connected=False).decode(PROMPT)


def test_the_error_says_why_each_worker_cannot_serve():
    gone, draining = link(DECODE, "gone:1"), link(DECODE, "full:1", draining=True)
    left = link(DECODE, "left:1", running=1)
    left.discovered = False
    with pytest.raises(Unavailable, match="gone:1 is unreachable, full:1 is draining, left:1 is leaving"):
        router(decode=[gone, draining, left]).decode(PROMPT)


def test_prefill_workers_come_in_the_order_in_which_they_would_be_done():
    queue = [
        link(PREFILL, "a:1", queued_tokens=900, running=1),
        link(PREFILL, "b:1", queued_tokens=100, running=1),
        link(PREFILL, "c:1"),
    ]
    assert prefill_order(*queue) == ["b:1", "a:1"]


def test_a_cached_prefix_is_worth_waiting_for_as_long_as_computing_it_would_take():
    cached = link(PREFILL, "a:1", cached=PAGES[:8], queued_tokens=8 * PAGE_TOKENS - 1)
    empty = link(PREFILL, "b:1", running=1)
    assert prefill_order(cached, empty) == ["a:1", "b:1"]
    cached = link(PREFILL, "a:1", cached=PAGES[:8], queued_tokens=8 * PAGE_TOKENS + 1)
    assert prefill_order(cached, empty) == ["b:1", "a:1"]


def test_what_the_reader_has_cached_need_not_be_cached_at_prefill():
    reader = link(DECODE, "d:1", cached=PAGES[:8])
    cached = link(PREFILL, "a:1", cached=PAGES[:8], queued_tokens=1)
    assert prefill_order(cached, link(PREFILL, "b:1", running=1), reader=reader)[0] == "b:1"


def test_a_burst_of_prompts_spreads_over_the_prefill_workers():
    pool = [link(PREFILL, f"p{i}:1", running=1) for i in range(3)]
    firsts = [prefill_order(*pool)[0] for _ in range(9)]
    assert sorted(firsts) == sorted([f"p{i}:1" for i in range(3)] * 3)


def test_without_a_reachable_prefill_worker_none_is_named():
    assert prefill_order() == []
    assert prefill_order(link(PREFILL, "a:1")) == []


def test_a_missing_role_is_found_before_any_work_is_spent():
    decoder = link(DECODE, "d:1", running=1)
    router(decode=[decoder]).require(images=False)
    blind = router(decode=[decoder], vision=[link(VISION, "v:1")])
    blind.require(images=False)
    with pytest.raises(Unavailable, match="no vision worker can serve: v:1 is unreachable"):
        blind.require(images=True)
    router(decode=[decoder], prefill=[link(PREFILL, "p:1")]).require(images=False)
    with pytest.raises(Unavailable, match="no decode worker"):
        router(decode=[link(DECODE, "d:1")]).require(images=False)


def test_an_image_stays_with_its_encoder_when_another_one_leaves():
    workers = [link(VISION, f"v{i}:1", running=1) for i in range(4)]
    hashes = [bytes([i]) * 32 for i in range(64)]
    before = {key: router(vision=workers).vision(key)[0] for key in hashes}
    assert len({each.address for each in before.values()}) == 4
    after = {key: router(vision=workers[1:]).vision(key)[0] for key in hashes}
    assert all(after[key] is before[key] for key in hashes if before[key] is not workers[0])


def test_an_image_goes_where_its_embedding_is_however_busy():
    for i in range(16):
        key = bytes([i]) * 32
        workers = [link(VISION, f"v{i}:1", running=1) for i in range(3)]
        workers.append(link(VISION, "cached:1", running=60, cached=[short_name(key)]))
        assert router(vision=workers).vision(key)[0].address == "cached:1"


def test_new_images_pass_an_encoder_that_is_far_behind():
    workers = [link(VISION, "busy:1", waiting=9), link(VISION, "a:1", waiting=1)]
    firsts = {router(vision=workers).vision(bytes([i]) * 32)[0].address for i in range(32)}
    assert firsts == {"a:1"}


@pytest.mark.parametrize("seed", range(30))
def test_with_many_workers_nobody_is_better_than_the_chosen_ones(seed):
    """Only some workers are ranked; here all are, by the rules as they are written down."""
    dice = random.Random(seed)

    def some(role):
        return [
            link(
                role,
                f"{role}-{number}:1",
                cached=PAGES[: max(0, dice.randrange(-20, 11))],
                pages=dice.choice((1000, 1000, 10, 3)),
                running=dice.randrange(4),
                queued_tokens=dice.randrange(4) * 300,
            )
            for number in range(40)
        ]

    decode, prefill = some(DECODE), some(PREFILL)

    def decode_rank(each):
        cached = each.cached.prefix(PAGES)
        lacks_room = PROMPT.num_pages - cached > each.available_pages
        return lacks_room, 256 * each.requests - PAGE_TOKENS * cached, -each.available_pages

    chosen = next(each for each in decode if each.address == decode_choice(*decode))
    assert decode_rank(chosen) == min(map(decode_rank, decode))

    reader = decode[seed]
    at_reader = reader.cached.prefix(PAGES)

    def prefill_rank(each):
        own = each.cached.prefix(PAGES)
        return each.queued_tokens - PAGE_TOKENS * max(at_reader, own), -own, each.requests

    expected = sorted(map(prefill_rank, prefill))[:8]
    ranks = {each.address: prefill_rank(each) for each in prefill}
    assert [ranks[address] for address in prefill_order(*prefill, reader=reader)] == expected


def test_only_a_missing_role_that_the_request_needs_has_a_restart_to_wait_for():
    lost_decode, lost_vision = link(DECODE, "d:1"), link(VISION, "v:1")
    lost_decode.last_restart_s, lost_vision.last_restart_s = 20.0, 70.0
    both = router(decode=[lost_decode], vision=[lost_vision])
    assert both.last_restart_s(images=False) == 20.0
    assert both.last_restart_s(images=True) == 70.0
    served = router(decode=[link(DECODE, "d:2", running=1), lost_decode], vision=[lost_vision])
    assert served.last_restart_s(images=False) == 0.0
