"""Settings that prefill and decode workers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from services.common import graces
from services.common.errors import ConfigError
from services.common.rpc.tls.settings import TlsSettings
from services.common.setting_ranges import MOST_THREADS, check_counts, check_seconds
from services.engine.model.rank import Rank

_MOST_GB = 10_000.0


@dataclass(frozen=True)
class TextWorkerConfig(TlsSettings):
    """Every field is a flag, an environment variable PERIGEE_… and a key of the settings file."""

    model: str = field(default="models/kimi-nano", metadata={"help": "checkpoint directory"})
    host: str = field(default="127.0.0.1", metadata={"help": "address to listen on"})
    context_length: int = field(
        default=0,
        metadata={
            "help": "longest prompt plus completion, tokens, within the model's and 64 per KV page; 0: the"
            " smaller of these"
        },
    )
    staging_blocks: int = field(
        default=512, metadata={"help": "pages of 64 embedding rows being read at once"}
    )
    max_quarantined_pages: int = field(
        default=0,
        metadata={"help": "so many pages in quarantine for a whole lease end the worker; 0: half the pool"},
    )
    lease_seconds: float = field(
        default=10.0, metadata={"help": "how long pages stay pinned for a reader without a renewal"}
    )
    deterministic: bool | None = field(
        default=None,
        metadata={"help": "equal bits whatever the batch, chunk or cache; by default on a CPU, not on a GPU"},
    )
    expected_transport: Literal["any", "rdma"] = field(
        default="any", metadata={"help": "'rdma' refuses to start or pair without remote DMA"}
    )
    transfer_options: str = field(
        default="", metadata={"help": "options of NIXL's UCX backend, e.g. num_workers=1,ucx_devices=mlx5_0"}
    )
    device: str = field(
        default="auto",
        metadata={
            "help": "where model and pages live: cpu, or the first GPU, e.g. cuda:0; auto: cuda:0 if any"
        },
    )
    reserved_gb: float = field(
        default=0.0,
        metadata={"help": "10^9 bytes of each GPU that other processes will take, e.g. a vision worker"},
    )
    dtype: str | None = field(
        default=None,
        metadata={"help": "of the weights: float32, by default on a CPU, or bfloat16, by default on a GPU"},
    )
    kv_format: str | None = field(
        default=None,
        metadata={
            "help": "of the KV pages: float32 or bfloat16, by default the dtype of the weights; "
            "the same for all workers"
        },
    )
    threads: int = field(default=1, metadata={"help": "CPU threads of the model, in each of its processes"})
    tp: int = field(
        default=1, metadata={"help": "processes that share the model: on the CPU, or on one GPU each"}
    )
    expert_parallel: bool = field(
        default=False,
        metadata={"help": "each process has some experts in full, not a part of every one"},
    )
    dp_attention: bool = field(
        default=False, metadata={"help": "each process attends for some sequences with all heads"}
    )
    grace_seconds: float = field(
        default=graces.WORKER_S, metadata={"help": "time for running requests to end after SIGTERM"}
    )

    def __post_init__(self) -> None:
        """Raises ConfigError, which names the first invalid setting."""
        self.check_tls()
        self.refuse_plain("host")
        for key in ("expert_parallel", "dp_attention"):
            if getattr(self, key) and self.tp == 1:
                raise ConfigError(f"{key}: applies to several processes that share a model; set tp above 1")
        if not 0 <= self.reserved_gb <= _MOST_GB:
            raise ConfigError(f"reserved_gb: must be 0 to {_MOST_GB:g}, is {self.reserved_gb:g}")
        check_counts(self, "staging_blocks")
        check_counts(self, "threads", "tp", most=MOST_THREADS)
        check_counts(self, "max_quarantined_pages", "context_length", least=0)
        check_seconds(self, "lease_seconds")
        check_seconds(self, "grace_seconds", or_zero=True)

    @property
    def rank(self) -> Rank:
        """Rank 0 of the processes that share the model."""
        return Rank(0, self.tp, self.expert_parallel, self.dp_attention)
