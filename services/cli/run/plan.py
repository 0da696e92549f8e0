"""Plans the suite: its processes, their arguments and addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from services.cli.run.child import perigee
from services.cli.run.ports import take_ports
from services.cli.run_config import RunConfig
from services.common.errors import ConfigError
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.role import Role
from services.common.settings import flag_name
from services.families.profile_choice import find_profile
from services.families.registry import family_in

WORKERS: tuple[Role, ...] = ("vision", "prefill", "decode")
LOOPBACK = "127.0.0.1"
_ANY = {"0.0.0.0": LOOPBACK, "::": "::1"}
_PORTS = ("--port", "--metrics-port")
# The processes share the cores: OpenMP threads that spin while waiting would starve the others.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "NIXL_LOG_LEVEL": "WARN"}


@dataclass(frozen=True)
class ChildPlan:
    """One process: its role, its arguments after `perigee`, and the address of its health checks: of a
    gateway the operator port, which opens last.
    """

    role: Role
    arguments: tuple[str, ...]
    grpc_address: str

    def command(self) -> list[str]:
        """Returns the command line."""
        return perigee(*self.arguments)

    @property
    def ports(self) -> tuple[int, int]:
        """A worker's gRPC port and metrics port."""
        port, metrics_port = (int(self._value(flag)) for flag in _PORTS)
        return port, metrics_port

    @property
    def device(self) -> str:
        """Where a worker computes, e.g. cuda:0."""
        return self._value("--device") if "--device" in self.arguments else "cpu"

    def moved(self, port: int, metrics_port: int) -> ChildPlan:
        """Returns the same worker on other ports."""
        words = list(self.arguments)
        for flag, value in zip(_PORTS, (port, metrics_port), strict=True):
            words[words.index(flag) + 1] = str(value)
        return replace(self, arguments=tuple(words), grpc_address=f"{LOOPBACK}:{port}")

    def _value(self, flag: str) -> str:
        return self.arguments[self.arguments.index(flag) + 1]


@dataclass(frozen=True)
class SuitePlan:
    """All processes, and the addresses to show."""

    children: tuple[ChildPlan, ...]
    rest_address: str
    grpc_address: str
    operator_address: str
    model_name: str
    public_tls_dir: str = ""
    keyless: bool = False
    """Whether other machines reach the doors for clients and nobody needs an API key."""

    def with_arguments(self, more: Mapping[Role, Sequence[str]]) -> SuitePlan:
        """The plan with more arguments for some roles' processes."""
        return replace(
            self,
            children=tuple(
                replace(child, arguments=(*child.arguments, *more.get(child.role, ())))
                for child in self.children
            ),
        )


def make_plan(config: RunConfig, endpoints: Endpoints, settings_file: str | None = None) -> SuitePlan:
    """Chooses ports and arguments. Raises ConfigError if the checkpoint is absent, its family has no such
    profile, or a port is taken; CheckpointError for an unknown family.
    """
    if not (Path(config.model) / "config.json").is_file():
        raise ConfigError(
            f"model: {config.model} is not a checkpoint directory (it has no config.json); see --model"
        )
    family = family_in(Path(config.model))
    if config.model_profile:
        find_profile(family, config.model_profile)
    # All ports are held until the last is chosen: the kernel may return the same free port twice.
    with ExitStack() as held:
        http_port, grpc_port, operator_port = (
            take_ports(endpoints, host, getattr(config, key), 1, flag_name(key), held)[0]
            for key, host in (
                ("http_port", config.host),
                ("grpc_port", config.host),
                ("operator_port", config.operator_host),
            )
        )
        roles = [role for role in WORKERS if not (config.aggregated and role == "prefill")]
        ports = _role_ports(endpoints, roles, config.port_base, "--port-base", held)
        metrics = _role_ports(endpoints, roles, config.metrics_port_base, "--metrics-port-base", held)
    common = ("--model", config.model, *(("--config", settings_file) if settings_file else ()))
    common += ("--trust-domain", config.trust_domain, *(("--insecure",) if config.insecure else ()))
    pools = {role: f"file:{pool_file(config, role)}" for role in roles}
    workers = []
    for role, port, metrics_port in zip(roles, ports, metrics, strict=True):
        own: tuple[str, ...] = ("--host", LOOPBACK, "--port", str(port), "--metrics-port", str(metrics_port))
        if config.tp > 1 and role != "vision":
            own += ("--tp", str(config.tp))
        if config.context_length and role != "vision":
            own += ("--context-length", str(config.context_length))
        if role == "decode":
            own += ("--prefill-pool", pools.get("prefill", ""))
            own += ("--aggregated",) if config.aggregated else ()
        address = f"{LOOPBACK}:{port}"
        workers.append(ChildPlan(role, (role, *common, *own, *_tls(config, role)), address))
    doors = ("--host", config.host, "--http-port", str(http_port), "--grpc-port", str(grpc_port))
    operator = ("--operator-host", config.operator_host, "--operator-port", str(operator_port))
    found_in = tuple(text for role in WORKERS for text in (f"--{role}", pools.get(role, "")))
    passed_on = tuple(
        text
        for key in (
            "served_model_name",
            "model_profile",
            "reasoning_parser",
            "tool_call_parser",
            "public_tls_dir",
        )
        if (value := getattr(config, key))
        for text in (f"--{key.replace('_', '-')}", value)
    )
    rest, grpc_door = _reachable(config.host, http_port), _reachable(config.host, grpc_port)
    operators = _reachable(config.operator_host, operator_port)
    gateway = ChildPlan(
        "gateway",
        ("gateway", *common, *doors, *operator, *found_in, *passed_on, *_tls(config, "gateway")),
        operators,
    )
    name = config.served_model_name.split(",")[0].strip() or Path(config.model).resolve().name
    return SuitePlan((*workers, gateway), rest, grpc_door, operators, name)


def pool_file(config: RunConfig, role: Role) -> Path:
    """Returns the file that lists the worker of a role: its address changes when it is replaced.

    Raises ConfigError if the name of the directory would not fit into a setting.
    """
    path = config.run_dir.resolve() / f"{role}.pool"
    if "," in str(path):
        raise ConfigError(f"run_dir: {path.parent} has a comma in its name; choose another with --run-dir")
    return path


def child_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Returns the children's environment: this one plus defaults for several processes on few cores."""
    # By default UCX listens on every interface, but all workers of the suite are on loopback.
    chosen = {"UCX_NET_DEVICES", "UCX_TLS"} & env.keys()
    return _ENVIRONMENT | ({} if chosen else {"UCX_NET_DEVICES": "lo"}) | dict(env)


def _role_ports(
    endpoints: Endpoints, roles: Sequence[Role], base: int, flag: str, held: ExitStack
) -> list[int]:
    """Returns a port per role: `base` plus the role's index in WORKERS, or any free port if `base` is 0."""
    wanted = [base and base + WORKERS.index(role) for role in roles]
    return [take_ports(endpoints, LOOPBACK, port, 1, flag, held)[0] for port in wanted]


def _tls(config: RunConfig, role: Role) -> tuple[str, ...]:
    return ("--tls-dir", str(Path(config.tls_dir) / role)) if config.tls_dir else ()


def _reachable(host: str, port: int) -> str:
    """Returns the address at which clients on this machine reach a server bound to `host`."""
    name = _ANY.get(host, host)
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
