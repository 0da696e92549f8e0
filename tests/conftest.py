"""Fixtures every test may use."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from tests.support.fidelity import FidelityReport
from tests.support.virtual_time import VirtualTimeLoop

# Read when torch is loaded: two threads per operation are slower than one where anything else computes, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent
# These need a container engine and minutes: `make test-compose` runs them.
collect_ignore = [] if os.environ.get("PERIGEE_COMPOSE") else ["compose"]
FIDELITY = pytest.StashKey[FidelityReport]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIDELITY] = FidelityReport()


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """How a test configures the logs of its process ends with it."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m fidelity` selects what fills docs/fidelity.md."""
    for item in items:
        if "fidelity" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.fidelity)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Writes the page that FIDELITY_PAGE names; fails where part of it would be missing."""
    path = os.environ.get("FIDELITY_PAGE")
    if path is None:
        return
    report = session.config.stash[FIDELITY]
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    incomplete = [f"tests {kind}" for kind in ("failed", "error", "skipped") if terminal.stats.get(kind)]
    incomplete += [f"nothing of {part!r}" for part in report.missing()]
    if incomplete:
        terminal.write_line(f"\n{path} stays as it is, for not all was compared: {', '.join(incomplete)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return
    report.write(Path(path))
    terminal.write_line(f"\nwrote {path}")


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests marked `virtual_time` run on a loop whose clock jumps."""
    return {"loop": VirtualTimeLoop if item.get_closest_marker("virtual_time") else asyncio.new_event_loop}


@pytest.fixture(scope="session")
def fidelity(pytestconfig: pytest.Config) -> FidelityReport:
    """The report in which tests that compare with a reference record their results."""
    return pytestconfig.stash[FIDELITY]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Returns the scheduler for `--dist loadfile`; None keeps the default of other modes."""
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
    """A checkpoint of random weights, small and in the published layout."""
    return REPOSITORY / "tests" / "data" / "kimi-nano"
