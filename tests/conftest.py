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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Of `--dist loadfile`; None leaves the others as they are."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.support.sharing import ByFile  # where pytest-xdist is

    return ByFile(config, log)


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
