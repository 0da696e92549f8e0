"""Fixtures of the benchmark's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.bench.fake_openai import FakeOpenAI


@pytest.fixture
def endpoint() -> Iterator[FakeOpenAI]:
    """An OpenAI-compatible endpoint that answers each request in full."""
    fake = FakeOpenAI()
    yield fake
    fake.close()
