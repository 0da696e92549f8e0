"""A suite's state without a suite."""

from __future__ import annotations

import os

import pytest

from services.cli.run_directory.states import ServiceState, SuiteState


@pytest.fixture
def suite():
    """Of this process: decode has been killed, the gateway serves."""
    return SuiteState(
        os.getpid(), "nano", "http://127.0.0.1:30000", "127.0.0.1:50050", "127.0.0.1:50049",
        since=0.0, stop_seconds=35.0, start_seconds=300.0,
        services=(
            ServiceState("decode", "restarting", "ended (killed by SIGKILL)", 7, "a:1", 3605.0, 2),
            ServiceState("gateway", "serving", "ready in 3.0 s", 1 << 30, "127.0.0.1:50049", 5.0, 1),
        ),
    )  # fmt: skip
