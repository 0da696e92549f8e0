"""A worker asks before it ends."""

from __future__ import annotations

import asyncio
import os

import pytest

from services.cli.run.handover import SupervisorsEnd, WorkersEnd
from tests.support.waiting import until


@pytest.fixture
async def ends():
    """The supervisor's end and the worker's."""
    supervisors = SupervisorsEnd()
    workers = WorkersEnd(os.dup(supervisors.theirs.fileno()))
    supervisors.theirs.close()
    yield supervisors, workers
    supervisors.answer()


async def test_a_worker_that_asks_is_heard_and_ends_when_it_is_answered(ends):
    supervisors, workers = ends
    ended = asyncio.Event()
    workers.on_answer(ended.set)
    workers.ask()
    async with asyncio.timeout(30):
        await supervisors.asked.wait()
    assert not ended.is_set()
    supervisors.answer()
    async with asyncio.timeout(30):
        await ended.wait()


async def test_a_worker_that_never_asked_ends_when_it_is_told_to(ends):
    supervisors, workers = ends
    ended = asyncio.Event()
    workers.on_answer(ended.set)
    supervisors.answer()
    supervisors.answer()
    async with asyncio.timeout(30):
        await ended.wait()
    assert not supervisors.asked.is_set()
    workers.ask()  # nobody reads it


async def test_whether_a_worker_asked_is_known_once_it_is_answered(ends):
    supervisors, workers = ends
    workers.ask()
    supervisors.answer()  # before the event loop could read
    assert supervisors.asked.is_set()


async def test_the_end_of_a_worker_is_no_question(ends):
    supervisors, workers = ends
    workers._socket.close()
    await until(lambda: not supervisors._open, 30)
    assert not supervisors.asked.is_set()
