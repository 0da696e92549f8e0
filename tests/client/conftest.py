"""Fixtures of the client's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.client.driver import Driver, driving
from tests.gateway.suite import Suite, open_suite


@pytest.fixture(params=["sync", "async"])
def kind(request) -> str:
    """Each client in turn."""
    return request.param


@pytest_asyncio.fixture
async def suite() -> AsyncIterator[Suite]:
    """A gateway with one fake worker of each role, healthy."""
    async with open_suite() as opened:
        yield opened


@pytest_asyncio.fixture
async def client(kind, suite) -> AsyncIterator[Driver]:
    """A client of the suite's gateway."""
    async with driving(kind, suite.gateway.grpc_port) as driver:
        yield driver
