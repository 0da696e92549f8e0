"""Helm and kubectl, and what they give for each scenario. Without them these tests are skipped."""

from __future__ import annotations

import pytest

from scripts.manifests.tools import ToolMissing, find
from tests.deploy.objects import SCENARIOS, Objects, templated


def _tool(name: str) -> str:
    try:
        return find(name)
    except ToolMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def helm() -> str:
    """The path of helm."""
    return _tool("helm")


@pytest.fixture(scope="session")
def kubectl() -> str:
    """The path of kubectl."""
    return _tool("kubectl")


@pytest.fixture(scope="session")
def rendered(helm: str) -> dict[str, Objects]:
    """The chart's objects by scenario."""
    return {scenario: templated(helm, values) for scenario, values in SCENARIOS.items()}
