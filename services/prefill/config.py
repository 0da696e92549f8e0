"""Settings of a prefill worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

from services.common.errors import ConfigError
from services.common.setting_ranges import AUTO, AutoCount, check_counts, check_ports
from services.engine.loading.worker_shape import WorkerShape
from services.engine.serving.text_worker_config import TextWorkerConfig

CPU_PAGES = 512
"""KV pages on a CPU, where `kv_pages` is auto."""
_CHUNK_TOKENS = MappingProxyType({"cpu": 512, "cuda": 8192})
"""Defaults: large enough to keep the device busy; larger ones would only delay other prompts."""


@dataclass(frozen=True)
class PrefillConfig(TextWorkerConfig):
    """All settings; see TextWorkerConfig for the others."""

    port: int = field(default=50052, metadata={"help": "gRPC port; 0 picks a free one"})
    metrics_port: int = field(default=9152, metadata={"help": "HTTP port of /metrics; 0 picks a free one"})
    kv_pages: AutoCount = field(
        default=AUTO,
        metadata={
            "help": "pages of 64 tokens in the KV pool; auto: what a GPU's free memory holds, on a CPU 512"
        },
    )
    chunk_tokens: int | None = field(
        default=None,
        metadata={
            "help": "tokens per forward pass, a multiple of 64; by default 512 on a CPU, 8192 on a GPU"
        },
    )
    layers_per_group: int = field(
        default=0, metadata={"help": "layers per announcement; 0: a quarter of the model's layers"}
    )
    max_waiting: int = field(default=256, metadata={"help": "requests queued before new ones are refused"})
    checksum_fraction: float = field(
        default=0.05,
        metadata={
            "help": "fraction of announcements with checksums, 0 to 1; on a GPU no announcement has any"
        },
    )

    def __post_init__(self) -> None:
        """Raises ConfigError naming the first invalid setting."""
        super().__post_init__()
        check_ports(self, "port", "metrics_port")
        check_counts(self, "kv_pages", "chunk_tokens", "max_waiting")
        check_counts(self, "layers_per_group", least=0)
        if not 0 <= self.checksum_fraction <= 1:
            raise ConfigError(f"checksum_fraction: must be 0 to 1, is {self.checksum_fraction:g}")

    @property
    def cpu_pages(self) -> int:
        """KV pages on a CPU if `kv_pages` is auto."""
        return CPU_PAGES

    def chunk_on(self, device: str) -> int:
        """Most tokens per pass on a "cpu" or on "cuda"."""
        return self.chunk_tokens or _CHUNK_TOKENS[device]

    def shape_on(self, device: str) -> WorkerShape:
        """What decides about the memory that the worker takes."""
        return WorkerShape(self.rank, self.chunk_on(device), 0, self.deterministic or False)
