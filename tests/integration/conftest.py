"""Stacks of real processes, and the loop that computes the expected tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support.decode_client import DecodeClient
from tests.support.reference_loop import ReferenceLoop
from tests.support.stack import TRANSPORTS, Stack


@pytest.fixture(scope="session")
def suite(nano_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All four processes on the default transport, for tests that do not change them.

    Every announcement is checksummed, and every process must exit with 0 after SIGTERM.
    """
    flags = {
        "prefill": {"checksum_fraction": 1.0},
        "gateway": {"served_model_name": "kimi-nano,moonshotai/Kimi-K2.5"},
    }
    stack = Stack(nano_dir, tmp_path_factory.mktemp("suite"), flags)
    try:
        stack.start()
        yield stack
    finally:
        codes = stack.stop()
    assert set(codes.values()) == {0}, f"exit codes after SIGTERM: {codes}"


@pytest.fixture
def client(suite: Stack) -> openai.OpenAI:
    """The official client of `suite`."""
    return openai.OpenAI(base_url=f"{suite.base_url}/v1", api_key="any", max_retries=0, timeout=60)


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """Each of the transports in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def workers(
    request: pytest.FixtureRequest, nano_dir: Path, tmp_path_factory: pytest.TempPathFactory, transport: str
) -> Iterator[Stack]:
    """Prefill and decode alone, with the FLAGS of the test's module, on each transport."""
    flags = request.module.FLAGS
    with Stack(nano_dir, tmp_path_factory.mktemp("workers"), flags, TRANSPORTS[transport]) as stack:
        stack.more_prefill += getattr(request.module, "MORE_PREFILL", [])
        stack.start("prefill", "decode")
        yield stack


@pytest.fixture
def decode_client(workers: Stack) -> Iterator[DecodeClient]:
    """A session with the decode worker of `workers`."""
    with workers.channel("decode") as channel:
        yield DecodeClient(channel)


@pytest.fixture(scope="session")
def reference(nano_dir: Path) -> ReferenceLoop:
    """The plain loop over the embedded checkpoint."""
    return ReferenceLoop(nano_dir)
