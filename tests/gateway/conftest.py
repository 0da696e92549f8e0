"""Fixtures of the gateway's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from services.families.kimi.tokenizer import KimiTokenizer
from services.gateway.http.connection.request_protocol import RequestProtocol
from tests.gateway.suite import Suite, open_suite


@dataclass
class Received:
    """Bytes that the REST door has read, of all connections."""

    count: int = 0


@pytest.fixture
def received(monkeypatch) -> Received:
    """Counts from now on, so that a test sends its next segment only after the last one was read."""
    counted, read = Received(), RequestProtocol.data_received

    def data_received(protocol: RequestProtocol, data: bytes) -> None:
        read(protocol, data)
        counted.count += len(data)

    monkeypatch.setattr(RequestProtocol, "data_received", data_received)
    return counted


@pytest_asyncio.fixture
async def suite() -> AsyncIterator[Suite]:
    """A gateway with one fake worker of each role, healthy."""
    async with open_suite() as opened:
        yield opened


@pytest.fixture(scope="session")
def tokenizer(nano_dir) -> KimiTokenizer:
    """The embedded checkpoint's."""
    return KimiTokenizer.from_dir(nano_dir)
