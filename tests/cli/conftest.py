"""Fixtures of the operator's commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.gateway_double import GatewayDouble


@pytest.fixture
def door() -> Iterator[GatewayDouble]:
    """A gateway that knows one worker of each role."""
    double = GatewayDouble()
    yield double
    double.close()
