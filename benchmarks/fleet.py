"""Services as processes of their own, each on the CPU cores it is given."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.rpc.endpoints import Endpoints
from services.common.rpc.role import Role
from services.common.rpc.tls.certificates import Certificates
from services.common.rpc.tls.security import Security
from services.common.rpc.tls.trust_domain import TrustDomain

_START_S = 60.0
_STOP_S = 30.0


class Fleet:
    """A context manager; ends what it has started. Logs go to `logs`, one file per process.

    `certificates`: a directory of `perigee certs dev`, for mTLS between all; `environment`: added to this
    process's.
    """

    def __init__(
        self,
        model: Path,
        logs: Path,
        certificates: Path | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._certificates = certificates
        self._environment = environment
        self._model = model
        self._logs = logs
        self._processes: list[subprocess.Popen[bytes]] = []
        self._prefill: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            stop(process)

    @property
    def pids(self) -> list[int]:
        """Process ids, in the order they were started."""
        return [process.pid for process in self._processes]

    def worker(
        self,
        role: Role,
        cores: Iterable[int],
        flags: Mapping[str, object] | None = None,
        within: Sequence[str] = (),
    ) -> str:
        """Starts a prefill, decode or vision worker; returns its address once it is healthy. `within`: words
        before the command.

        A decode worker may ask the prefill workers that this fleet has started before it.
        """
        own: dict[str, object] = {"host": "127.0.0.1", "port": free_port(), "metrics_port": free_port()}
        if role == "decode":
            own["prefill_pool"] = ",".join(self._prefill)
        own |= dict(flags or {})
        address = f"{own['host']}:{own['port']}"
        self._start(role, cores, own, address, within)
        if role == "prefill":
            self._prefill.append(address)
        return address

    def gateway(
        self,
        decode: Iterable[str],
        prefill: Iterable[str] = (),
        vision: Iterable[str] = (),
        cores: Iterable[int] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> str:
        """Starts a gateway for these workers, on all cores by default; returns the URL of its REST door.
        `more`: further settings.
        """
        return self.both_doors(decode, prefill, vision, cores, more)[0]

    def both_doors(
        self,
        decode: Iterable[str],
        prefill: Iterable[str] = (),
        vision: Iterable[str] = (),
        cores: Iterable[int] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> tuple[str, int]:
        """Like `gateway`; also returns the port of its gRPC door."""
        http_port, grpc_port, operator_port = free_port(), free_port(), free_port()
        pools = {"decode": decode, "prefill": prefill, "vision": vision}
        flags: dict[str, object] = {
            "http_port": http_port, "grpc_port": grpc_port, "operator_port": operator_port, **(more or {})
        }  # fmt: skip
        flags |= {name: ",".join(addresses) for name, addresses in pools.items()}
        self._start("gateway", cores or os.sched_getaffinity(0), flags, f"127.0.0.1:{operator_port}")
        return f"http://127.0.0.1:{http_port}", grpc_port

    def _start(
        self,
        role: Role,
        cores: Iterable[int],
        flags: Mapping[str, object],
        address: str,
        within: Sequence[str] = (),
    ) -> None:
        words = [*within, sys.executable, "-m", "services.cli.main", role, "--model", str(self._model)]
        tls = {"tls_dir": self._certificates / role} if self._certificates else {}
        for name, value in {**tls, **flags}.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        own = {"OMP_WAIT_POLICY": "passive", "NIXL_LOG_LEVEL": "WARN"}
        environment = {**os.environ, **own, **self._environment}
        log = self._logs / f"{role}-{len(self._processes)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=environment)
        self._processes.append(process)
        os.sched_setaffinity(process.pid, set(cores))
        with self._endpoints().sync_channel(address, role) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            wait_until_up(address, lambda: _is_healthy(stub), process, log)

    def _endpoints(self) -> Endpoints:
        if self._certificates is None:
            return Endpoints("operator")
        own = Certificates.of_peer(self._certificates / "operator", TrustDomain(), "operator")
        return Endpoints("operator", Security(peers=own))


def free_port() -> int:
    """A port on which nobody listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stop(process: subprocess.Popen[bytes], patience_s: float = _STOP_S) -> None:
    """Waits for a process that was asked to end; kills it if it does not."""
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()


def wait_until_up(name: str, is_up: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Raises RuntimeError with the end of the log if the process has ended or takes too long."""
    end = time.monotonic() + _START_S
    while not is_up():
        if process.poll() is not None or time.monotonic() > end:
            tail = log.read_text(errors="replace")[-4000:]
            raise RuntimeError(f"{name} is not up; its log:\n{tail}")
        time.sleep(0.05)


def _is_healthy(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
    except grpc.RpcError:
        return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING
