"""Settings of a decode worker."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DecodeConfig:
    """All settings; every field is a flag, an environment variable PERIGEE_… and a key of the settings
    file."""

    model: str = field(default="models/kimi-nano", metadata={"help": "checkpoint directory"})
    host: str = field(default="127.0.0.1", metadata={"help": "address to listen on"})
    port: int = field(default=50053, metadata={"help": "gRPC port; 0 picks a free one"})
    metrics_port: int = field(default=9153, metadata={"help": "HTTP port of /metrics; 0 picks a free one"})
    kv_pages: int = field(default=1024, metadata={"help": "pages of 64 tokens in the KV pool"})
    max_running: int = field(default=256, metadata={"help": "sequences decoded together"})
    max_waiting: int = field(default=512, metadata={"help": "requests queued before new ones are refused"})
    chunk_tokens: int = field(
        default=256, metadata={"help": "tokens of a prompt computed here per step; a multiple of 64"}
    )
    local_prefill_tokens: int = field(
        default=16, metadata={"help": "uncached prompts up to this long are computed here, not by prefill"}
    )
    headroom_pages: int = field(
        default=2, metadata={"help": "pages kept free per admitted choice for its output"}
    )
    prefill_silence_seconds: float = field(
        default=10.0, metadata={"help": "how long a prefill worker may say nothing before another is tried"}
    )
    request_timeout_seconds: float = field(default=3600.0, metadata={"help": "longest life of a request"})
    staging_blocks: int = field(
        default=512, metadata={"help": "blocks of 64 embedding rows being read at once"}
    )
    max_quarantined_pages: int = field(
        default=0,
        metadata={"help": "quarantined pages at which the worker drains and restarts; 0: half the pool"},
    )
    deterministic: bool = field(
        default=True, metadata={"help": "equal bits whatever the batch, chunk or cache"}
    )
    expected_transport: str = field(
        default="any", metadata={"help": "'rdma' refuses to start or pair without remote DMA"}
    )
    transfer_options: str = field(
        default="", metadata={"help": "options of NIXL's UCX backend, e.g. num_workers=1,ucx_devices=mlx5_0"}
    )
    device: str = field(default="cpu", metadata={"help": "where model and pages live, e.g. cuda:0"})
    dtype: str = field(default="float32", metadata={"help": "of weights and pages: float32 or bfloat16"})
    threads: int = field(default=1, metadata={"help": "CPU threads of the model"})
    grace_seconds: float = field(default=20.0, metadata={"help": "time to finish what runs after SIGTERM"})
