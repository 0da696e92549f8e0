"""Small programs that stand in for services."""

from __future__ import annotations

import io
import os
import sys

import pytest

from services.cli.run.child import Child
from services.cli.run.progress import Progress

STUBBORN = """
import signal
signal.signal(signal.SIGTERM, lambda *_: print('asked to stop', flush=True))
print('up', flush=True)
while True:
    signal.pause()
"""
OBEDIENT = "import signal; print('up', flush=True); signal.pause()"
SILENT = "import signal; signal.pause()"


@pytest.fixture
def make_child(tmp_path):
    """A child that runs a program text; whatever is left of it dies with the test."""
    made = []

    def make(program, name="child"):
        made.append(Child([sys.executable, "-c", program], os.environ, tmp_path / f"{name}.log"))
        return made[-1]

    yield make
    for child in made:
        child.kill()


@pytest.fixture
def screen():
    return io.StringIO()


@pytest.fixture
def progress(screen):
    return Progress(screen, ["vision", "decode"])


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(name="is_running")
def is_running_fixture():
    return is_running


@pytest.fixture
def obedient():
    return OBEDIENT


@pytest.fixture
def stubborn():
    """Writes that it was asked to stop, and goes on."""
    return STUBBORN


@pytest.fixture
def silent():
    """Never says that it is up."""
    return SILENT
