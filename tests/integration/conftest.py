"""Stacks of real processes, and the loop their tokens are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.reference_loop import ReferenceLoop
from tests.support.stack import TRANSPORTS, Stack


@pytest.fixture(scope="session")
def suite(nano_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All four processes on the default transport, for tests that leave them as they are."""
    stack = Stack(nano_dir, tmp_path_factory.mktemp("suite"))
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """Each of the transports in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def reference(nano_dir: Path) -> ReferenceLoop:
    """The plain loop over the embedded checkpoint."""
    return ReferenceLoop(nano_dir)
