"""Settings of a decode worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

from services.common.errors import ConfigError
from services.common.rpc.pool_address import parse_pool
from services.common.setting_ranges import AUTO, AutoCount, check_counts, check_ports, check_seconds
from services.engine.loading.worker_shape import WorkerShape
from services.engine.serving.text_worker_config import TextWorkerConfig

CPU_PAGES = 1024
"""KV pages on a CPU, where `kv_pages` is auto."""
_CHUNK_TOKENS = 256
_AGGREGATED_CHUNK_TOKENS = MappingProxyType({"cpu": 128, "cuda": 2048})
"""Defaults of an aggregated worker, which computes prompts beside running sequences all the time. On a CPU,
longer chunks are hardly faster per token and delay these sequences in proportion; a GPU would idle with 128.
"""


@dataclass(frozen=True)
class DecodeConfig(TextWorkerConfig):
    """All settings; see TextWorkerConfig for the others."""

    port: int = field(default=50053, metadata={"help": "gRPC port; 0 picks a free one"})
    metrics_port: int = field(default=9153, metadata={"help": "HTTP port of /metrics; 0 picks a free one"})
    kv_pages: AutoCount = field(
        default=AUTO,
        metadata={
            "help": "pages of 64 tokens in the KV pool; auto: what a GPU's free memory holds, on a CPU 1024"
        },
    )
    max_running: int = field(default=256, metadata={"help": "sequences decoded together"})
    max_waiting: int = field(
        default=512,
        metadata={
            "help": "most queued requests; more new ones are refused, resumed ones only beyond twice as many"
        },
    )
    aggregated: bool = field(
        default=False,
        metadata={"help": "run without prefill workers: prompts are always computed here; see chunk_tokens"},
    )
    prefill_pool: str = field(
        default="127.0.0.1:50052",
        metadata={
            "help": "prefill workers it may connect to, host:port,…, whatever a gateway names; a name means"
            " all it resolves to, file:/PATH all that are listed there"
        },
    )
    chunk_tokens: int | None = field(
        default=None,
        metadata={
            "help": "prompt tokens computed here per step, a multiple of 64; more of them delay running"
            " sequences, fewer delay prompts; by default 256, aggregated 128 on a CPU and 2048 on a GPU"
        },
    )
    local_prefill_tokens: int = field(
        default=128,
        metadata={"help": "prompts with at most this many uncached tokens are computed here, not by prefill"},
    )
    headroom_pages: int = field(
        default=2, metadata={"help": "pages kept free per admitted choice for its output"}
    )
    prefill_silence_seconds: float = field(
        default=10.0, metadata={"help": "how long a prefill worker may be silent before another is tried"}
    )
    request_timeout_seconds: float = field(default=3600.0, metadata={"help": "longest duration of a request"})

    def __post_init__(self) -> None:
        """Raises ConfigError naming the first invalid setting."""
        super().__post_init__()
        try:
            parse_pool(self.prefill_pool)
        except ConfigError as error:
            raise error.about("prefill_pool") from None
        check_ports(self, "port", "metrics_port")
        check_counts(self, "kv_pages", "max_running", "max_waiting", "chunk_tokens")
        check_counts(self, "local_prefill_tokens", "headroom_pages", least=0)
        check_seconds(self, "prefill_silence_seconds", "request_timeout_seconds")

    @property
    def cpu_pages(self) -> int:
        """KV pages on a CPU if `kv_pages` is auto."""
        return CPU_PAGES

    def chunk_on(self, device: str) -> int:
        """Most prompt tokens per step on a "cpu" or on "cuda"."""
        if self.chunk_tokens is not None:
            return self.chunk_tokens
        return _AGGREGATED_CHUNK_TOKENS[device] if self.aggregated else _CHUNK_TOKENS

    def shape_on(self, device: str) -> WorkerShape:
        """What decides about the memory that the worker takes."""
        return WorkerShape(self.rank, self.chunk_on(device), self.max_running, self.deterministic or False)
