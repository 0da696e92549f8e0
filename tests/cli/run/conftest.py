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
ASKING = """
import asyncio, signal, sys
from services.cli.run.handover import WorkersEnd

async def run():
    handover, end = WorkersEnd(int(sys.argv[2])), asyncio.Event()
    handover.on_answer(end.set)
    loop = asyncio.get_running_loop()

    def asked():
        handover.ask()
        loop.remove_signal_handler(signal.SIGTERM)  # a second one ends the process

    loop.add_signal_handler(signal.SIGTERM, asked)
    print('up', flush=True)
    await end.wait()
    print('told to end', flush=True)

asyncio.run(run())
"""
SILENT = "import signal; signal.pause()"


@pytest.fixture
def make_child(tmp_path):
    """A child that runs a program text; whatever is left of it dies with the test."""
    made = []

    def make(program, name="child", *, asks=False):
        log = tmp_path / f"{name}.log"
        made.append(Child([sys.executable, "-c", program], os.environ, log, asks=asks))
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
def asking():
    """A worker as `perigee run` starts it: after SIGTERM it asks, and goes on until it is told to end."""
    return ASKING


@pytest.fixture
def silent():
    """Never says that it is up."""
    return SILENT
