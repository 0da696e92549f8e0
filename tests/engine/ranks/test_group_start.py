"""How the ranks of a group meet, and how a group ends whatever became of its ranks."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import timedelta
from multiprocessing import active_children

import pytest
import torch
from torch import distributed

from services.common.errors import Unavailable
from services.engine.kv_cache.kv_format import FLOAT32
from services.engine.ranks import process_group
from services.engine.ranks.meeting import PATIENCE, Meeting
from services.engine.ranks.process_group import STEP_PATIENCE, start_group
from services.engine.ranks.rank_plan import RankPlan
from tests.support.batches import batch_of
from tests.support.endpoints import ENDPOINTS
from tests.support.lazy_group import start_lazily
from tests.support.rank_groups import runner_of, start_ranks

PAGES = 4
CLOSED_S = 12.0
"""A group whose ranks do not end by themselves is closed within this time, on an idle machine."""
PROMPT = list(range(5, 40))
lazily = pytest.mark.filterwarnings("ignore:Set timeout is now only supported")


def plan_of(nano_dir, ranks=2, start=start_lazily):
    return RankPlan(ranks, nano_dir, True, torch.float32, FLOAT32, 1, PAGES, start_group=start)


@pytest.fixture
def followers():
    """Returns the processes that are alive and were started during the test."""
    before = active_children()
    return lambda: [child for child in active_children() if child not in before]


def first_logits(runner):
    return runner.forward(batch_of([(PROMPT, 0, [0], True)]))[0]


@lazily
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_that_meet_at_their_first_collective_compute_as_those_that_meet_at_once(
    nano_dir, ranks, followers
):
    logits = []
    for start in (start_group, start_lazily):
        plan = plan_of(nano_dir, ranks, start)
        group = start_ranks(plan)
        try:
            logits.append(first_logits(runner_of(group, plan)))
        finally:
            group.close()
        assert not followers()
    assert torch.equal(*logits)


def test_on_a_gpu_the_group_is_given_its_device_so_that_it_connects_at_once(monkeypatch):
    given = {}
    monkeypatch.setattr(
        process_group.distributed, "init_process_group", lambda name, **named: given.update(named, name=name)
    )
    device = torch.device("cuda", 3)
    start_group(distributed.HashStore(), 3, 8, device)
    assert (given["name"], given["device_id"], given["rank"]) == ("nccl", device, 3)
    start_group(distributed.HashStore(), 1, 2, torch.device("cpu"))
    assert (given["name"], given["device_id"]) == ("gloo", None)


def test_collectives_wait_long_while_ranks_load_and_less_later(nano_dir):
    plan = plan_of(nano_dir, start=start_group)
    group = start_ranks(plan)
    try:
        backend = distributed.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
        assert backend.options._timeout == PATIENCE
        runner_of(group, plan)
        assert backend.options._timeout == STEP_PATIENCE < timedelta(hours=1) / 10
    finally:
        group.close()


def end_at_once(store, rank, ranks, device):
    if rank:
        os._exit(7)
    start_lazily(store, rank, ranks, device)


@lazily
def test_a_rank_that_ends_while_others_load_is_named_at_once(nano_dir, followers):
    plan = plan_of(nano_dir, 4, end_at_once)
    group = start_ranks(plan)
    try:
        with pytest.raises(Unavailable, match=r"rank [123] has ended with exit code 7"):
            group.group.meet()
    finally:
        group.close()
    assert not followers()


def test_a_rank_that_never_comes_is_waited_for_an_hour():
    times = iter([0.0, 60.0, 3599.0, 3601.0])
    bound = ENDPOINTS.bound_socket("127.0.0.1", 0, "--tp")
    hosted = Meeting.host(bound, 2, lambda: None)
    meeting = Meeting(hosted.store, 0, 2, clock=lambda: next(times))
    with pytest.raises(Unavailable, match=r"ranks \[1\] are not loaded after 1:00:00"):
        meeting.wait_for_all("loaded")


@lazily
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_group_with_a_stopped_or_dead_rank_is_closed_in_time_and_leaves_no_process(
    nano_dir, number, followers
):
    plan = plan_of(nano_dir)
    group = start_ranks(plan)
    first_logits(runner_of(group, plan))
    [follower] = followers()
    os.kill(follower.pid, number)
    began = time.monotonic()
    group.close()
    assert time.monotonic() - began < CLOSED_S
    assert not followers()
    assert not distributed.is_initialized()


@lazily
def test_aborting_ends_a_pass_that_waits_for_a_stopped_rank(nano_dir, followers):
    plan = plan_of(nano_dir)
    group = start_ranks(plan)
    runner = runner_of(group, plan)
    first_logits(runner)
    [follower] = followers()
    os.kill(follower.pid, signal.SIGSTOP)
    failed = threading.Event()

    def compute():
        with pytest.raises(RuntimeError):
            first_logits(runner)
        failed.set()

    threading.Thread(target=compute, daemon=True).start()
    assert not failed.wait(0.2)
    group.abort()
    assert failed.wait(CLOSED_S)
    assert not followers()
