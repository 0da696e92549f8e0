"""Fixtures of the gateway's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.gateway.suite import Suite, open_suite


@pytest_asyncio.fixture
async def suite() -> AsyncIterator[Suite]:
    """A gateway with one fake worker of each role, healthy."""
    async with open_suite() as opened:
        yield opened
