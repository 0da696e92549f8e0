"""How a suite is: the file in its directory that `perigee run` writes, and other commands read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from services.cli.run_directory.lock import holder
from services.common.errors import NotFound

_FILE = "suite.json"

State: TypeAlias = Literal["starting", "serving", "replacing", "restarting", "failed", "stopping"]
"""`replacing`: the service got SIGTERM and its successor starts; `restarting`: it has ended itself."""


@dataclass(frozen=True)
class ServiceState:
    """One service. `detail`: as on the screen; `pid`: of the process that serves, or is to; `since`: when the
    state began, Unix time; `starts`: processes started so far.
    """

    role: str
    state: State = "starting"
    detail: str = ""
    pid: int | None = None
    address: str = ""
    since: float = 0.0
    starts: int = 0


@dataclass(frozen=True)
class SuiteState:
    """A suite. `since`: when it was started, Unix time; `detail`: what it waits for while it stops;
    `stop_seconds`, `start_seconds`: the longest times that stopping it and starting a service take.
    """

    pid: int
    model: str
    rest: str
    grpc: str
    operator: str
    since: float
    stop_seconds: float
    start_seconds: float
    detail: str = ""
    services: tuple[ServiceState, ...] = ()

    @property
    def serves(self) -> bool:
        """Whether every service does."""
        return all(service.state == "serving" for service in self.services)


class StateFile:
    """Writes the file anew at every change. A disk that is full stops nobody."""

    def __init__(self, directory: Path, suite: SuiteState, clock: Callable[[], float] = time.time) -> None:
        """`suite`: with all its services. `clock`: Unix time."""
        self._path = directory / _FILE
        self._clock = clock
        self._suite = suite
        self._services = {service.role: service for service in suite.services}
        self._write()

    def say(self, detail: str) -> None:
        """Records what the suite waits for."""
        self._suite = dataclasses.replace(self._suite, detail=detail)
        self._write()

    def record(self, role: str, **changes: Any) -> None:
        """Records changes of a service: fields of ServiceState except `since`, which follows from them."""
        former = self._services[role]
        since = former.since if changes.get("state", former.state) == former.state else self._clock()
        self._services[role] = dataclasses.replace(former, **changes, since=since)
        self._write()

    def close(self) -> None:
        """Removes the file."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _write(self) -> None:
        suite = dataclasses.replace(self._suite, services=tuple(self._services.values()))
        new = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            new.write_text(json.dumps(dataclasses.asdict(suite)))
            new.replace(self._path)


def no_suite(directory: Path) -> NotFound:
    """Returns the error for a directory that no suite has locked."""
    return NotFound(
        f"no suite is running with its logs in {directory}; `perigee run` starts one, --run-dir names another"
        " directory"
    )


def read_suite(directory: Path) -> SuiteState:
    """Returns the state of the suite whose logs are in the directory. Raises NotFound if none runs there."""
    pid = holder(directory)
    if pid is None:
        raise no_suite(directory)
    try:
        found = json.loads((directory / _FILE).read_text())
        services = tuple(ServiceState(**service) for service in found.pop("services"))
        suite = SuiteState(**found, services=services)
    except (OSError, ValueError, TypeError, KeyError):
        suite = None
    if suite is None or suite.pid != pid:
        raise NotFound(f"the suite with its logs in {directory} (process {pid}) is only beginning to start")
    return suite
