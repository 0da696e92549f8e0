"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
# These need a container engine and minutes: `make test-compose` runs them.
collect_ignore = [] if os.environ.get("PERIGEE_COMPOSE") else ["compose"]


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
