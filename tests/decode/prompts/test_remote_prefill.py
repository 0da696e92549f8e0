"""Fetches end exactly once, however early they are stopped."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from services.common.errors import Cancelled
from services.decode.prompts.fetch import FetchOrder, FetchResult
from services.decode.prompts.remote_prefill import RemotePrefill
from tests.support.waiting import let_tasks_run

ORDER = FetchOrder("nowhere:1", "request", (1, 2, 3), (), "", 0, (7,))


class PeersThatNeverAnswer:
    async def get(self, address: str, role: str) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("turns_of_the_loop", [0, 1, 2, 3])
async def test_a_stopped_fetch_ends_as_cancelled_even_if_it_has_not_begun(turns_of_the_loop):
    ends: list[FetchResult] = []
    remote = RemotePrefill(
        cast(Any, PeersThatNeverAnswer()),
        transfer=cast(Any, None),
        num_layers=1,
        silence_s=1.0,
        verifies=True,
        on_admitted=lambda prompt: None,
        on_end=lambda prompt, result: ends.append(result),
        on_settled=lambda pages: None,
    )
    prompt: Any = object()
    remote.start(prompt, ORDER)
    await let_tasks_run(turns_of_the_loop)
    remote.stop(prompt)
    await let_tasks_run()
    assert [type(result.error) for result in ends] == [Cancelled]
    remote.stop(prompt)
    await let_tasks_run()
    assert len(ends) == 1
