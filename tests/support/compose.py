"""The suite in real containers, run by docker-compose or Docker Compose."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import grpc
import httpx
from google.protobuf import json_format

from perigee.v1 import admin_pb2, worker_pb2
from tests.support.endpoints import open_sync_channel
from tests.support.stack import free_port
from tests.support.waiting import wait_until

WORKERS = ("vision", "prefill", "decode")
_ROLES = {role: worker_pb2.WorkerRole.Value(f"WORKER_ROLE_{role.upper()}") for role in WORKERS}


class Compose:
    """A project of its own on free ports; `command` is the compose tool, e.g. "docker compose"."""

    def __init__(self, repository: Path, command: str, *overrides: str) -> None:
        """`overrides`: files on top of docker-compose.yml."""
        self._command = shlex.split(command)
        self._repository = repository
        self._project = f"perigee-test-{os.getpid()}{'-over' if overrides else ''}"
        self.http_port, self.grpc_port = free_port(), free_port()
        self._environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": self._project,
            "COMPOSE_FILE": os.pathsep.join(("docker-compose.yml", *overrides)),
            "PERIGEE_HTTP_PORT": str(self.http_port),
            "PERIGEE_GRPC_PORT": str(self.grpc_port),
        }
        self.scale_now: dict[str, int] = {}

    @property
    def base_url(self) -> str:
        """The URL of the REST door."""
        return f"http://127.0.0.1:{self.http_port}"

    def channel(self) -> grpc.Channel:
        """A new synchronous channel to the gateway."""
        return open_sync_channel(f"127.0.0.1:{self.grpc_port}")

    def run(self, *arguments: str, timeout_s: float = 900.0) -> str:
        """Runs a command of the compose tool; returns its output, or raises an AssertionError with it."""
        done = subprocess.run(
            [*self._command, *arguments],
            cwd=self._repository,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{shlex.join(arguments)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def up(self, scale: Mapping[str, int]) -> None:
        """Starts the services, or changes the number of workers of each role, and waits until all
        are known.
        """
        flags = [text for role, count in scale.items() for text in ("--scale", f"{role}={count}")]
        self.run("up", "--detach", "--no-build", *flags)
        self.scale_now = dict(scale)

    def wait_until_whole(self, timeout_s: float = 180.0) -> None:
        """Waits until the gateway reaches exactly the expected workers and knows no others."""
        wanted = [_ROLES[role] for role, count in self.scale_now.items() for _ in range(count)]
        found = ""

        def is_whole() -> bool:
            nonlocal found
            try:
                workers = self.workers()
            except (AssertionError, ValueError) as error:  # the gateway is not running, or not yet
                found = str(error)
                return False
            found = str([(w.address, w.reachable, w.discovered) for w in workers])
            reached = [worker.info.role for worker in workers if worker.reachable and worker.discovered]
            return len(reached) == len(workers) and sorted(reached) == sorted(wanted)

        wait_until(
            is_whole,
            timeout_s,
            every_s=0.2,
            detail=lambda: f"not all workers are there: {found}\n{self.run('ps')}",
        )

    def workers(self) -> list[admin_pb2.WorkerStatus]:
        """The workers that the gateway knows."""
        # Only the container itself reaches the operator port; exit code 1: a worker is unreachable.
        listed = self.execute("gateway", "sh", "-c", "perigee workers --json || [ $? = 1 ]")
        listed = listed[listed.index("{") :]
        return list(json_format.Parse(listed, admin_pb2.ListWorkersResponse()).workers)

    def addresses(self, role: str) -> list[str]:
        """The addresses at which the gateway finds the workers of a role."""
        return [worker.address for worker in self.workers() if worker.info.role == _ROLES[role]]

    def flush(self) -> None:
        """Empties every cache."""
        self.execute("gateway", "perigee", "flush")

    def containers(self, service: str) -> list[str]:
        """Ids of a service's containers."""
        return self.run("ps", "--quiet", service).split()

    def inspect(self, container: str) -> dict[str, object]:
        """The container engine's description of a container."""
        found = subprocess.run(
            ["docker", "inspect", container], capture_output=True, text=True, check=True, timeout=30
        )
        described: dict[str, object] = json.loads(found.stdout)[0]
        return described

    def kill_process(self, container: str) -> None:
        """Kills the container's process with SIGKILL from the host, like the kernel's out-of-memory
        killer.
        """
        state = self.inspect(container)["State"]
        assert isinstance(state, dict)
        os.kill(int(state["Pid"]), signal.SIGKILL)

    def execute(self, service: str, *command: str) -> str:
        """Runs a command in a container of the service; returns its output."""
        return self.run("exec", "-T", service, *command, timeout_s=120)

    def metric_by_worker(self, name: str) -> dict[str, float]:
        """A counter of the gateway's combined /metrics page, by worker."""
        values: dict[str, float] = {}
        for line in httpx.get(f"{self.base_url}/metrics", timeout=10, trust_env=False).text.splitlines():
            if line.startswith(name + "{") and 'worker="' in line:
                worker = line.split('worker="', 1)[1].split('"', 1)[0]
                values[worker] = values.get(worker, 0.0) + float(line.rpartition(" ")[2])
        return values

    def down(self) -> None:
        """Stops and removes everything but the images."""
        self.run("down", "--volumes", "--timeout", "40")
