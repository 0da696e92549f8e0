"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Read when torch is loaded: two threads per operation are slower than one where anything else computes, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent
# These need a container engine and minutes: `make test-compose` runs them.
collect_ignore = [] if os.environ.get("PERIGEE_COMPOSE") else ["compose"]


@pytest.hookimpl(tryfirst=True)  # the marks are read by the hook of pytest-xdist
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Says what stays together when the tests are shared among several processes, as `make test` does.

    A file's tests share fixtures. The stacks of tests/integration would be in each other's way, so these are
    for one process, one after another, and first, because they take the longest.
    """
    if not hasattr(config, "workerinput"):  # all in one process
        return
    items.sort(key=lambda item: "tests/integration/" not in item.nodeid)
    for item in items:
        file = item.nodeid.partition("::")[0]
        group = "integration" if "tests/integration/" in file else file
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's root."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The directory of golden vectors and published files beside the checkout; skips where there is none."""
    path = Path(os.environ.get("PERIGEE_SHARED", REPOSITORY.parent / "shared"))
    if not (path / "data").is_dir():
        pytest.skip("golden vectors are absent: set PERIGEE_SHARED to the directory that holds data/")
    return path


@pytest.fixture(scope="session")
def nano_dir() -> Path:
    """The embedded checkpoint."""
    return REPOSITORY / "models" / "kimi-nano"
