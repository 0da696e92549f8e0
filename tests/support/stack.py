"""The real suite: processes on free ports, real gRPC, real NIXL."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from tests.support.certificates import Deployment
from tests.support.endpoints import open_sync_channel
from tests.support.nursery import CPU_ENVIRONMENT, NurseryProcess, shared_nursery
from tests.support.waiting import scaled, wait_until

ROLES = ("vision", "prefill", "decode", "gateway")
TRANSPORTS = {"default": {}, "tcp": {"UCX_TLS": "tcp", "UCX_NET_DEVICES": "lo"}}


# Below the ports that the system gives to connections, which could take one between its choice and its use.
# Nearly every process that runs tests has its own part of them.
_PORTS = itertools.cycle(range(20_000 + os.getpid() % 64 * 180, 20_180 + os.getpid() % 64 * 180))


def free_port() -> int:
    """A port on which nobody listens now, and probably nobody will before it is used."""
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError


class Stack:
    """Starts, watches, kills and restarts the processes.

    `flags` are per role, e.g. {"decode": {"kv_pages": 64}}, or for one of its workers. `replicas` says how
    many workers a role has if more than one: two of decode are called decode and decode-1. `deployment`:
    certificates for mTLS. `modules`: per role, what to run in place of the command.
    """

    def __init__(
        self,
        model: Path,
        logs: Path,
        flags: Mapping[str, Mapping[str, object]] | None = None,
        environment: Mapping[str, str] | None = None,
        replicas: Mapping[str, int] | None = None,
        deployment: Deployment | None = None,
        modules: Mapping[str, str] | None = None,
    ) -> None:
        self.model = model
        self._modules = modules or {}
        self._deployment = deployment
        self.logs = logs
        self.names = tuple(
            name for role in ROLES for name in _replica_names(role, (replicas or {}).get(role, 1))
        )
        self.ports = {name: free_port() for name in self.names}
        self.metrics_ports = {name: free_port() for name in self.names}
        self.http_port = self.metrics_ports["gateway"]
        self.operator_port = free_port()
        self._flags = flags or {}
        self._environment = {**os.environ, **CPU_ENVIRONMENT, "NIXL_LOG_LEVEL": "WARN"} | dict(
            environment or {}
        )
        self.processes: dict[str, NurseryProcess] = {}
        self.more_prefill: list[str] = []
        """Addresses beside its own prefill workers that its decode workers may connect to."""

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def address(self, role: str) -> str:
        """host:port of a role's gRPC server."""
        return f"127.0.0.1:{self.ports[role]}"

    @property
    def operator_address(self) -> str:
        """host:port of the gateway's operator port."""
        return f"127.0.0.1:{self.operator_port}"

    @property
    def base_url(self) -> str:
        """The URL of the REST door."""
        return f"http://127.0.0.1:{self.http_port}"

    def channel(self, role: str = "gateway") -> grpc.Channel:
        """A new synchronous channel to a role: with mTLS an operator's; to a gateway's door for clients."""
        name = role.partition("-")[0]
        if self._deployment is None or name == "gateway":
            return open_sync_channel(self.address(role))
        return self._deployment.endpoints("operator").sync_channel(self.address(role), name)

    def start(self, *roles: str) -> None:
        """Starts the roles given, by default all, and waits until each is healthy."""
        for role in roles or self.names:
            self._spawn(role)
        for role in roles or self.names:
            self._wait_ready(role)
        if "gateway" in self.processes:
            self._wait_known(roles or self.names)

    def stop(self) -> dict[str, int]:
        """Ends all processes with SIGTERM, and those that do not end with SIGKILL; returns their
        exit codes.
        """
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGTERM)
        codes = {}
        for role, process in self.processes.items():
            try:
                codes[role] = process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[role] = process.wait()
        return codes

    def signal(self, role: str, number: int) -> None:
        """Sends a signal to a role's process; after SIGKILL, waits for its end."""
        self.processes[role].send_signal(number)
        if number == signal.SIGKILL:
            self.processes[role].wait()

    def metrics(self, role: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """The samples of a role's /metrics page by name and sorted labels."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.metrics_ports[role]}/metrics", timeout=10
        ) as page:
            text = page.read().decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def pages(self, role: str) -> dict[str, int]:
        """A role's pages by state."""
        return {
            dict(labels)["state"]: int(value)
            for (name, labels), value in self.metrics(role).items()
            if name == "perigee_kv_pages"
        }

    def counter(self, role: str, name: str) -> int:
        """A role's counter without labels."""
        return int(self.metrics(role)[name, ()])

    def of_role(self, role: str) -> list[str]:
        """The names of a role's workers."""
        return [name for name in self.names if name.partition("-")[0] == role]

    def wait_until_free(
        self, timeout_s: float, roles: tuple[str, ...] = ("prefill", "decode", "vision")
    ) -> float:
        """Waits until no page of the roles is used, leased or quarantined; returns the seconds it took.

        `timeout_s` applies to an idle machine.
        """
        started = time.monotonic()

        def held() -> dict[str, dict[str, int]]:
            pages = {role: self.pages(role) for role in roles}
            return {
                role: {state: count for state, count in states.items() if state not in ("free", "cached")}
                for role, states in pages.items()
            }

        wait_until(
            lambda: not any(any(states.values()) for states in held().values()),
            scaled(timeout_s),
            every_s=0.02,
            detail=lambda: f"pages still held after {time.monotonic() - started:.1f} s: {held()}",
        )
        return time.monotonic() - started

    def log(self, role: str) -> str:
        """The log of a role so far."""
        return (self.logs / f"{role}.log").read_text(errors="replace")

    def _arguments(self, name: str) -> dict[str, object]:
        role = name.partition("-")[0]
        if role == "gateway":
            own: dict[str, object] = {
                "model": self.model,
                "http_port": self.http_port,
                "grpc_port": self.ports["gateway"],
                "operator_port": self.operator_port,
                **{
                    pool: ",".join(map(self.address, self.of_role(pool)))
                    for pool in ("vision", "prefill", "decode")
                },
            }
        else:
            own = {"model": self.model, "port": self.ports[name], "metrics_port": self.metrics_ports[name]}
            if role == "decode":
                own["local_prefill_tokens"] = 16  # so that short prompts, which are fast, go through prefill
                pool = [*map(self.address, self.of_role("prefill")), *self.more_prefill]
                own["prefill_pool"] = ",".join(pool)
        if self._deployment is not None:
            own["tls_dir"] = self._deployment.path(role)
        return own | dict(self._flags.get(role, {})) | dict(self._flags.get(name, {}))

    def _spawn(self, name: str) -> None:
        words = [name.partition("-")[0]]
        for flag, value in self._arguments(name).items():
            words += [f"--{flag.replace('_', '-')}", *([] if value is True else [str(value)])]
        with (self.logs / f"{name}.log").open("ab") as log:
            module = self._modules.get(words[0], "services.cli.main")
            self.processes[name] = shared_nursery().start(module, words, self._environment, log)

    def _wait_ready(self, role: str, timeout_s: float = 60.0) -> None:
        process = self.processes[role]
        with self.channel(role) as channel:
            stub = health_pb2_grpc.HealthStub(channel)

            def is_ready() -> bool:
                with contextlib.suppress(grpc.RpcError):
                    status = stub.Check(health_pb2.HealthCheckRequest(), timeout=1).status
                    if status == health_pb2.HealthCheckResponse.SERVING:
                        return True
                assert process.poll() is None, f"{role} ended with {process.returncode}:\n{self.log(role)}"
                return False

            wait_until(
                is_ready,
                timeout_s,
                every_s=0.05,
                detail=lambda: f"{role} is not healthy:\n{self.log(role)}",
            )

    def _wait_known(self, names: tuple[str, ...], timeout_s: float = 20.0) -> None:
        """Waits for all workers: the gateway is ready without prefill and vision, but tests need
        all of them.
        """

        def states() -> dict[str, str]:
            with urllib.request.urlopen(f"{self.base_url}/health", timeout=10) as page:
                return json.load(page)["workers"]

        def are_known() -> bool:
            known = states()
            return all(known.get(self.address(name), "serving") == "serving" for name in names)

        wait_until(are_known, timeout_s, every_s=0.05, detail=states)


def _replica_names(role: str, count: int) -> list[str]:
    return [role, *(f"{role}-{index}" for index in range(1, count))]
