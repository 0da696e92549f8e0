"""Which workers a request goes to."""

from types import SimpleNamespace

import pytest

from perigee.v1 import worker_pb2
from services.common.errors import Unavailable
from services.gateway.router import Router
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.pool import DECODE, PREFILL, VISION, DecodeWorker

INFO = worker_pb2.WorkerInfo(incarnation="x")


def link(role, address, **load):
    made = WorkerLink(role, address, channel=FakeChannel())
    if load:
        made._heard(INFO, worker_pb2.LoadReport(**load))
    return made


class FakeChannel:
    """Enough for stubs to be made of it."""

    def unary_unary(self, *args, **kwargs):
        return None

    unary_stream = stream_unary = stream_stream = unary_unary


def router(*, decode=(), prefill=(), vision=(), connected=True):
    session = SimpleNamespace(connected=connected)
    workers = tuple(DecodeWorker(each, session) for each in decode)
    return Router(SimpleNamespace(decode=workers, prefill=tuple(prefill), vision=tuple(vision)))


def test_the_least_loaded_decode_worker_is_chosen():
    busy, idle = link(DECODE, "busy:1", running=3, waiting=1), link(DECODE, "idle:1", running=2)
    assert router(decode=[busy, idle]).decode().link is idle


def test_requests_on_their_way_count_until_the_next_report():
    first, second = link(DECODE, "a:1", running=1), link(DECODE, "b:1", running=2)
    first.note_sent()
    first.note_sent()
    assert router(decode=[first, second]).decode().link is second
    first._heard(INFO, worker_pb2.LoadReport(running=1))
    assert router(decode=[first, second]).decode().link is first


def test_a_draining_worker_is_never_chosen():
    draining, busy = link(DECODE, "a:1", draining=True), link(DECODE, "b:1", running=9)
    assert router(decode=[draining, busy]).decode().link is busy


def test_a_worker_without_a_session_is_not_chosen():
    with pytest.raises(Unavailable):
        router(decode=[link(DECODE, "a:1", running=1)], connected=False).decode()


def test_the_error_says_why_each_worker_cannot_serve():
    gone, draining = link(DECODE, "gone:1"), link(DECODE, "full:1", draining=True)
    with pytest.raises(Unavailable, match="gone:1 is unreachable, full:1 is draining"):
        router(decode=[gone, draining]).decode()


def test_prefill_addresses_come_least_loaded_first():
    workers = [link(PREFILL, "a:1", waiting=5), link(PREFILL, "b:1", waiting=1), link(PREFILL, "c:1")]
    assert router(prefill=workers).prefill() == ["b:1", "a:1"]


def test_without_configured_prefill_the_list_is_empty_and_without_a_reachable_one_it_is_an_error():
    assert router().prefill() == []
    with pytest.raises(Unavailable, match="prefill"):
        router(prefill=[link(PREFILL, "a:1")]).prefill()


def test_an_image_stays_with_its_encoder_when_another_one_leaves():
    workers = [link(VISION, f"v{i}:1", running=i) for i in range(1, 5)]
    hashes = [bytes([i]) * 32 for i in range(64)]
    before = {key: router(vision=workers).vision(key)[0] for key in hashes}
    assert len({each.address for each in before.values()}) == 4
    after = {key: router(vision=workers[1:]).vision(key)[0] for key in hashes}
    assert all(after[key] is before[key] for key in hashes if before[key] is not workers[0])
