"""Fixtures of the gateway's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.families.kimi.tokenizer import Tokenizer
from tests.gateway.suite import Suite, open_suite


@pytest_asyncio.fixture
async def suite() -> AsyncIterator[Suite]:
    """A gateway with one fake worker of each role, healthy."""
    async with open_suite() as opened:
        yield opened


@pytest.fixture(scope="session")
def tokenizer(nano_dir) -> Tokenizer:
    """The embedded checkpoint's."""
    return Tokenizer.from_dir(nano_dir)
