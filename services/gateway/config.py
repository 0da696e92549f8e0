"""The settings of a gateway."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from services.common import graces
from services.common.errors import ConfigError
from services.common.media.image_file import ImagePreprocess
from services.common.rpc.pool_address import parse_pool
from services.common.rpc.tls.settings import TlsSettings, is_loopback, plain_refused
from services.common.setting_ranges import (
    MOST_BYTES,
    MOST_SECONDS,
    MOST_THREADS,
    check_counts,
    check_ports,
    check_seconds,
)
from services.common.settings import INTERNAL
from services.gateway.media.download.allowed_hosts import AllowedHosts
from services.gateway.profile import Profile

_POOLS = ("vision", "prefill", "decode")
KIMI_K2 = "kimi_k2"
PARSERS = (KIMI_K2, "none")


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@dataclass(frozen=True)
class GatewayConfig(TlsSettings):
    """Settings of one gateway process; lists are comma-separated text in flags, variables and files alike."""

    model: str = field(
        default="models/kimi-nano",
        metadata={"help": "checkpoint directory; only config.json and the tokenizer files are read"},
    )
    tokenizer: str = field(
        default="",
        metadata={
            "help": "directory of tokenizer files, in place of model and workers: serves /tokenize and"
            " /detokenize only"
        },
    )
    host: str = field(default="127.0.0.1", metadata={"help": "address of the ports for clients"})
    http_port: int = field(default=30000, metadata={"help": "REST and /metrics port; 0: any free one"})
    grpc_port: int = field(default=50050, metadata={"help": "gRPC port; 0: any free one"})
    public_tls_dir: str = field(
        default="",
        metadata={
            "help": "directory of the certificate of both ports for clients: tls.crt and tls.key; empty: no"
            " TLS"
        },
    )
    public_client_ca: str = field(
        default="",
        metadata={
            "help": "file with the CA of clients' certificates; with it, every client needs one; empty: none"
        },
    )
    api_keys: str = field(
        default="",
        metadata={
            "help": "file of API keys, which `perigee keys` makes; callers need one of them, operators too;"
            " it is read again when it changes; empty: nobody needs a key"
        },
    )
    allowed_hosts: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "names by which requests may call REST beside localhost, 127.0.0.1 and [::1]: name,"
            " *.name or *, comma-separated; others get 421: always on a loopback address, else if this is set"
        },
    )
    cors_origins: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "origins whose pages may use REST from a browser, scheme://host[:port], comma-separated,"
            " or * for any; empty: none"
        },
    )
    operator_host: str = field(
        default="127.0.0.1",
        metadata={"help": "address of the operator port; anyone who reaches it can stop the service"},
    )
    operator_port: int = field(
        default=50049,
        metadata={"help": "gRPC port of perigee workers, drain, flush and the like; 0: any free one"},
    )
    processes: int = field(
        default=1, metadata={"help": "processes that serve the ports together, one core each"}
    )
    crew: str = field(
        default="",
        metadata={INTERNAL: True, "help": "set by the first of several processes: the socket of this one"},
    )
    vision: str = field(
        default="127.0.0.1:50051",
        metadata={
            "help": "vision workers, host:port,…; a name means all it resolves to, file:/PATH all that are"
            " listed there; empty: text only"
        },
    )
    prefill: str = field(
        default="127.0.0.1:50052",
        metadata={"help": "prefill workers, host:port,…; empty: decode computes prompts"},
    )
    decode: str = field(
        default="127.0.0.1:50053", metadata={"help": "decode workers, host:port,…; at least one"}
    )
    discovery_seconds: float = field(
        default=2.0, metadata={"help": "how often the names of the pools are resolved, seconds"}
    )
    served_model_name: str = field(
        default="",
        metadata={"help": "names the model answers to, primary first; empty: the directory's name"},
    )
    model_alias: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "other names that callers may use, PATTERN=NAME, comma-separated, such as"
            " claude-*=kimi-k2.5; * stands for any characters, NAME is a served name; empty: none"
        },
    )
    strict_fields: bool = field(
        default=False,
        metadata={
            "help": "refuse requests of the agents' routes (/v1/messages) that have fields, tools or"
            " anthropic-beta values unknown here; by default these are ignored, and named in Perigee-Ignored"
        },
    )
    billing_header: Literal["drop", "keep"] = field(
        default="drop",
        metadata={
            "help": "the x-anthropic-billing-header in system prompts of /v1/messages: drop: the model does"
            " not see it; keep: it does, and no prompt is cached, because it differs in every request"
        },
    )
    model_profile: str = field(
        default="",
        metadata={
            "help": "which model of the family it is: k2.5, k2.6 or k2.7-code; empty: as the checkpoint's"
            " chat template and the names say, else k2.5"
        },
    )
    reasoning_parser: str = field(
        default=KIMI_K2,
        metadata={"help": "kimi_k2: separates reasoning from content; none: all is content"},
    )
    tool_call_parser: str = field(
        default=KIMI_K2,
        metadata={"help": "kimi_k2: tool sections become tool calls; none: they are raw content"},
    )
    reasoning_field: Literal["reasoning_content", "reasoning"] = field(
        default="reasoning_content",
        metadata={"help": "the name that reasoning has in answers of /v1/chat/completions"},
    )
    close_cut_calls: bool = field(
        default=False,
        metadata={
            "help": "close a tool call before max_tokens would cut it: valid, but perhaps half of what the"
            " model meant; by default it is left unfinished"
        },
    )
    max_concurrent_requests: int = field(
        default=512,
        metadata={
            "help": "requests in flight in a process; more are refused at once: 429 / RESOURCE_EXHAUSTED"
        },
    )
    max_body_bytes: int = field(
        default=64 << 20, metadata={"help": "largest request body or gRPC message, bytes"}
    )
    body_timeout_seconds: float = field(
        default=60.0, metadata={"help": "how long a request body may take to arrive, seconds"}
    )
    max_held_bytes: int = field(
        default=512 << 20,
        metadata={
            "help": "bytes of all requests in a process, being read or answered; for one more the longest of"
            " those being read is refused: 429 / RESOURCE_EXHAUSTED"
        },
    )
    max_header_bytes: int = field(
        default=32 << 10, metadata={"help": "most bytes of a request's headers or metadata: 431"}
    )
    header_timeout_seconds: float = field(
        default=20.0,
        metadata={"help": "how long a TLS handshake or a request's headers may take to arrive, seconds"},
    )
    keep_alive_seconds: int = field(
        default=75, metadata={"help": "how long a connection may be idle between two requests, seconds"}
    )
    sse_keep_alive: Literal["none", "comment", "chunk"] = field(
        default="none",
        metadata={
            "help": "what an event stream sends while there is nothing new: none, comment (an SSE comment) or"
            " chunk (an event without text)"
        },
    )
    sse_keep_alive_seconds: float = field(
        default=15.0,
        metadata={
            "help": "how long a stream is silent before that, and at most before its headers go out, seconds"
        },
    )
    max_waiting_connections: int = field(
        default=2048,
        metadata={
            "help": "connections in a TLS handshake or without a whole request, or calls over gRPC without"
            " one; for one more the one that waits longest is closed"
        },
    )
    max_messages: int = field(default=4096, metadata={"help": "most messages in one request"})
    max_tools: int = field(
        default=256, metadata={"help": "most tools declared in one request; more than 256 are never taken"}
    )
    max_prompt_characters: int = field(
        default=4 << 20, metadata={"help": "most text in one prompt, tools included, characters"}
    )
    profile: Profile = field(
        default="none",
        metadata={"help": "moonshot: refuse chats that Moonshot's own API refuses, as it does for the model"},
    )
    allowed_media_hosts: str = field(
        default="",
        metadata={
            "help": "hosts from which images and videos are fetched by URL: name, *.name or *, with :port if"
            " need be, comma-separated; never from addresses that are not public; empty: none"
        },
    )
    media_timeout_seconds: float = field(
        default=10.0,
        metadata={"help": "fetching one image or video, waiting for a turn and redirects included, seconds"},
    )
    max_images: int = field(default=32, metadata={"help": "most images in one request"})
    max_image_bytes: int = field(default=16 << 20, metadata={"help": "largest image file, bytes"})
    max_image_pixels: int = field(default=50_000_000, metadata={"help": "largest image, width x height"})
    image_preprocess: ImagePreprocess = field(
        default="standard",
        metadata={
            "help": "standard: images as viewers show them (EXIF orientation applied, transparency on white,"
            " 16-bit grey scaled); parity: as the published preprocessing reads them, without any of this"
        },
    )
    max_videos: int = field(default=4, metadata={"help": "most videos in one request"})
    max_video_bytes: int = field(default=32 << 20, metadata={"help": "largest video file, bytes"})
    max_video_pixels: int = field(
        default=16 * 1024 * 1024, metadata={"help": "largest frame of a video, width x height"}
    )
    max_video_frames: int = field(default=36_000, metadata={"help": "most frames of a video file"})
    max_video_seconds: float = field(default=600.0, metadata={"help": "longest video, seconds"})
    request_timeout_seconds: float = field(
        default=3600.0, metadata={"help": "a request's whole time, seconds"}
    )
    encode_timeout_seconds: float = field(
        default=60.0,
        metadata={"help": "encoding of one image or chunk of video, without its wait in the queue, seconds"},
    )
    first_token_timeout_seconds: float = field(
        default=600.0,
        metadata={"help": "a decode worker silent for so long before the first token is given up, seconds"},
    )
    token_timeout_seconds: float = field(
        default=60.0,
        metadata={"help": "the same between two tokens; another worker continues, seconds"},
    )
    worker_wait_seconds: float = field(
        default=600.0,
        metadata={
            "help": "the longest wait of a request that lost its worker for another, seconds; it waits 45 s,"
            " or twice as long as the worker's last restart took"
        },
    )
    max_failovers: int = field(
        default=5,
        metadata={"help": "how often a request may move to another worker without a token in between"},
    )
    grace_seconds: float = field(
        default=graces.GATEWAY_S,
        metadata={"help": "how long running requests may continue after SIGTERM, seconds"},
    )

    def __post_init__(self) -> None:
        if self.tokenizer:
            self._refuse_beside_tokenizer()
        elif not _split(self.decode):
            raise ConfigError("decode: name at least one decode worker, host:port")
        for key in _POOLS:
            try:
                parse_pool(getattr(self, key))
            except ConfigError as error:
                raise ConfigError(f"{key}: {error.message}") from None
        for key in ("reasoning_parser", "tool_call_parser"):
            if getattr(self, key) not in PARSERS:
                raise ConfigError(f"{key}: {getattr(self, key)!r} is not one of {', '.join(PARSERS)}")
        AllowedHosts(self.allowed_media_hosts)
        self._check_tls()
        check_ports(self, "http_port", "grpc_port", "operator_port")
        self._refuse_shared_ports()
        check_counts(
            self, "max_concurrent_requests", "max_body_bytes",
            "max_header_bytes", "max_waiting_connections", "max_messages", "max_tools",
            "max_prompt_characters", "max_images", "max_image_bytes", "max_image_pixels",
            "max_videos", "max_video_bytes", "max_video_pixels", "max_video_frames",
        )  # fmt: skip
        check_counts(self, "processes", most=MOST_THREADS)
        check_counts(self, "max_held_bytes", most=MOST_BYTES)
        check_counts(self, "keep_alive_seconds", most=int(MOST_SECONDS))
        check_counts(self, "max_failovers", least=0)
        if self.max_held_bytes < self.max_body_bytes:
            raise ConfigError(
                f"max_held_bytes: {self.max_held_bytes} is less than one body may have, {self.max_body_bytes}"
            )
        check_seconds(
            self, "max_video_seconds", "header_timeout_seconds", "body_timeout_seconds",
            "request_timeout_seconds",
            "encode_timeout_seconds", "discovery_seconds", "media_timeout_seconds",
            "sse_keep_alive_seconds",
            "first_token_timeout_seconds", "token_timeout_seconds",
        )  # fmt: skip
        check_seconds(self, "grace_seconds", "worker_wait_seconds", or_zero=True)

    def _check_tls(self) -> None:
        self.check_tls()
        self.refuse_plain("operator_host")
        if self.public_client_ca and not self.public_tls_dir:
            raise ConfigError("public_client_ca: has no use without public_tls_dir")
        if not (self.public_tls_dir or self.insecure or is_loopback(self.host)):
            raise plain_refused(
                f"host: other machines reach {self.host}", "--public-tls-dir (PERIGEE_PUBLIC_TLS_DIR)"
            )

    def _refuse_shared_ports(self) -> None:
        """Raises ConfigError if clients, or a page that CORS lets in, would reach the operators' port."""
        for key in ("http_port", "grpc_port"):
            if self.operator_port and getattr(self, key) == self.operator_port:
                raise ConfigError(
                    f"operator_port: {self.operator_port} is {key} too; operators need their own"
                )

    def _refuse_beside_tokenizer(self) -> None:
        """A setting that would silently have no effect is an error."""
        for each in fields(self):
            given = getattr(self, each.name)
            if each.name in ("model", *_POOLS) and given not in ("", each.default):
                raise ConfigError(f"{each.name}: {given} has no use beside tokenizer; give one of them")

    @property
    def pools(self) -> tuple[str, str, str]:
        """The settings vision, prefill and decode; all empty for a tokenizer alone."""
        return ("", "", "") if self.tokenizer else (self.vision, self.prefill, self.decode)

    @property
    def served_names(self) -> tuple[str, ...]:
        """Configured names, primary first; empty when none was given."""
        return _split(self.served_model_name)
