"""Settings of `perigee run`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from services.common import graces
from services.common.errors import ConfigError
from services.common.rpc.tls.settings import TlsSettings
from services.common.setting_ranges import AUTO, MOST_THREADS, AutoSeconds, check_counts, check_seconds
from services.common.settings import FORMERLY
from services.gateway.config import PARSERS

PORTS = (
    ("http_port", 1),
    ("grpc_port", 1),
    ("operator_port", 1),
    ("port_base", 3),
    ("metrics_port_base", 3),
)
"""Settings of ports, and the number of consecutive ports that each uses."""
_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class RunConfig(TlsSettings):
    """Settings of the suite as a whole; a role's own come from the settings file or PERIGEE_* variables."""

    model: str = field(
        default=str(_REPOSITORY / "models" / "kimi-nano"), metadata={"help": "checkpoint directory"}
    )
    served_model_name: str = field(
        default="",
        metadata={"help": "names of the model in requests, primary first; empty: the directory's name"},
    )
    model_profile: str = field(
        default="",
        metadata={
            "help": "which model of the family it is: k2.5, k2.6 or k2.7-code; empty: the gateway's own"
            " setting, by default as the checkpoint suggests"
        },
    )
    reasoning_parser: str = field(
        default="", metadata={"help": "kimi_k2, or none for raw text; empty: the gateway's own setting"}
    )
    tool_call_parser: str = field(
        default="", metadata={"help": "kimi_k2, or none for raw text; empty: the gateway's own setting"}
    )
    tls_dir: str = field(
        default="",
        metadata={
            "help": "directory with one per role, as perigee certs dev makes it: services accept only each"
            " other and operators; empty: plain TCP, on loopback addresses"
        },
    )
    public_tls_dir: str = field(
        default="", metadata={"help": "directory of the certificate of REST and gRPC; empty: no TLS"}
    )
    host: str = field(default="127.0.0.1", metadata={"help": "address on which REST and gRPC listen"})
    http_port: int = field(default=30000, metadata={"help": "REST port; 0: any free one"})
    grpc_port: int = field(default=50050, metadata={"help": "gRPC port; 0: any free one"})
    operator_host: str = field(
        default="127.0.0.1", metadata={"help": "address on which the operator port listens"}
    )
    operator_port: int = field(
        default=50049, metadata={"help": "gRPC port of perigee workers, drain, flush…; 0: any free one"}
    )
    port_base: int = field(
        default=50051, metadata={"help": "gRPC port of vision; prefill and decode follow; 0: any free ones"}
    )
    metrics_port_base: int = field(
        default=9151, metadata={"help": "metrics port of vision; prefill and decode follow; 0: any free ones"}
    )
    keep_ports: bool = field(
        default=False,
        metadata={
            "help": "a worker that is replaced keeps its ports, so it ends before its successor starts; by"
            " default the successor starts first, on free ones"
        },
    )
    aggregated: bool | None = field(
        default=None,
        metadata={
            "help": "run without prefill workers: decode computes prompts itself; by default where there are"
            " GPUs for decode, and too few for prefill too"
        },
    )
    tp: int = field(default=1, metadata={"help": "processes that share the model, in prefill and in decode"})
    context_length: int = field(
        default=0,
        metadata={"help": "longest prompt plus completion, tokens; 0: what model and KV pages allow"},
    )
    run_dir: Path = field(
        default=Path(".run"),
        metadata={"help": "directory of the services' logs; one suite at a time uses it"},
    )
    start_timeout_seconds: AutoSeconds = field(
        default=AUTO,
        metadata={
            FORMERLY: {"start_timeout_s": 1},
            "help": "how long a service may take to become healthy, seconds; auto: 300, and 5 more per GB of"
            " the checkpoint",
        },
    )
    stop_timeout_seconds: float = field(
        default=graces.SUITE_S,
        metadata={
            FORMERLY: {"stop_timeout_s": 1},
            "help": "how long the services may take to stop before they are killed, seconds",
        },
    )

    def __post_init__(self) -> None:
        self.check_tls()
        for key, count in PORTS:
            value = getattr(self, key)
            if not 0 <= value <= 65536 - count:
                raise ConfigError(f"{key}: {value} is not a port, or not the first of {count}")
        for key in ("reasoning_parser", "tool_call_parser"):
            if getattr(self, key) not in ("", *PARSERS):
                raise ConfigError(f"{key}: {getattr(self, key)!r} is not one of {', '.join(PARSERS)}")
        check_counts(self, "tp", most=MOST_THREADS)
        check_counts(self, "context_length", least=0)
        check_seconds(self, "start_timeout_seconds", "stop_timeout_seconds")
