"""Settings of a vision worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from services.common import graces
from services.common.rpc.tls.settings import TlsSettings
from services.common.setting_ranges import MOST_THREADS, check_counts, check_ports, check_seconds
from services.common.settings import FORMERLY


@dataclass(frozen=True)
class VisionConfig(TlsSettings):
    """Every field is a flag, an environment variable PERIGEE_… and a key of the settings file."""

    model: str = field(default="models/kimi-nano", metadata={"help": "checkpoint directory"})
    host: str = field(default="127.0.0.1", metadata={"help": "address to listen on"})
    port: int = field(default=50051, metadata={"help": "gRPC port; 0 picks a free one"})
    metrics_port: int = field(default=9151, metadata={"help": "HTTP port of /metrics; 0 picks a free one"})
    embedding_pages: int = field(default=512, metadata={"help": "pages of 64 rows in the embedding pool"})
    max_image_pixels: int = field(default=64 * 1024 * 1024, metadata={"help": "most pixels of an image file"})
    max_video_pixels: int = field(
        default=16 * 1024 * 1024, metadata={"help": "most pixels per frame of a video"}
    )
    max_video_frames: int = field(default=36_000, metadata={"help": "most frames in a video file"})
    max_video_seconds: float = field(default=600.0, metadata={"help": "longest video, seconds"})
    max_waiting: int = field(
        default=64, metadata={"help": "most images and videos in progress or queued; more are refused"}
    )
    max_waiting_patches: int = field(
        default=16 * 16_384,
        metadata={"help": "most patches, after resizing, of images in progress or queued; more are refused"},
    )
    preprocess_threads: int = field(
        default=1, metadata={"help": "threads that decode and resize images and videos"}
    )
    hold_seconds: float = field(
        default=30.0,
        metadata={
            FORMERLY: {"hold_ms": 0.001},
            "help": "minimum time an embedding is kept after Encode, seconds",
        },
    )
    lease_seconds: float = field(
        default=10.0, metadata={"help": "how long embeddings stay pinned for a reader without a renewal"}
    )
    max_quarantined_pages: int = field(
        default=0,
        metadata={"help": "so many pages in quarantine for a whole lease end the worker; 0: half the pool"},
    )
    expected_transport: Literal["any", "rdma"] = field(
        default="any", metadata={"help": "'rdma' refuses to start without remote DMA"}
    )
    device: str = field(
        default="auto",
        metadata={"help": "where model and embeddings live: cpu, or e.g. cuda:0; auto: cuda:0 if any"},
    )
    dtype: str | None = field(
        default=None,
        metadata={"help": "of the weights: float32, by default on a CPU, or bfloat16, by default on a GPU"},
    )
    max_batch: int = field(
        default=0, metadata={"help": "most images encoded together; 0: 1 on a CPU, 8 on a GPU"}
    )
    threads: int = field(default=1, metadata={"help": "CPU threads of the model"})
    grace_seconds: float = field(
        default=graces.WORKER_S, metadata={"help": "time to finish running requests after SIGTERM"}
    )

    def __post_init__(self) -> None:
        """Raises ConfigError naming the first invalid setting."""
        self.check_tls()
        self.refuse_plain("host")
        check_ports(self, "port", "metrics_port")
        check_counts(
            self, "embedding_pages", "max_image_pixels", "max_video_pixels", "max_video_frames",
            "max_waiting", "max_waiting_patches",
        )  # fmt: skip
        check_counts(self, "preprocess_threads", "threads", most=MOST_THREADS)
        check_counts(self, "max_quarantined_pages", "max_batch", least=0)
        check_seconds(self, "lease_seconds", "max_video_seconds")
        check_seconds(self, "grace_seconds", "hold_seconds", or_zero=True)
