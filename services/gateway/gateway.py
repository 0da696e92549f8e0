"""One gateway: its parts put together, started and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import grpc
import httpcore
import structlog

from perigee.v1 import chat_pb2_grpc, generation_pb2_grpc, models_pb2_grpc
from services.common.media.video_file import VideoLimits
from services.common.metrics import new_registry
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.health import DRAINING, Health, add_health
from services.common.rpc.name_resolver import NameResolver
from services.common.rpc.pool_address import parse_pool
from services.common.telemetry.tracer import Tracer
from services.gateway.access.gatekeeper import Gatekeeper
from services.gateway.access.key_watch import KeyWatch
from services.gateway.access.rules import RPCS
from services.gateway.access.usage_store import UsageStore
from services.gateway.admission import Admission
from services.gateway.byte_budget import ByteBudget
from services.gateway.config import KIMI_K2, GatewayConfig
from services.gateway.constraint.builder import ConstraintBuilder
from services.gateway.http.answers.keep_alive import KeepAlive
from services.gateway.http.app import App
from services.gateway.http.body import BodyReader
from services.gateway.http.connection.request_protocol import Patience
from services.gateway.http.guards.cors import Cors
from services.gateway.http.guards.host_check import HostCheck
from services.gateway.http.ignored import IgnoredFields
from services.gateway.http.pages.metrics_page import MetricsPage, WorkerCounts
from services.gateway.http.pages.process_metrics import ProcessMetrics
from services.gateway.http.route_table import DoorParts
from services.gateway.http.server import HttpServer
from services.gateway.media.download.allowed_hosts import AllowedHosts
from services.gateway.media.download.downloader import MOST_AT_ONCE, Downloader
from services.gateway.media.download.pinned_network import PinnedNetwork
from services.gateway.media.images import ImageLimits
from services.gateway.media.remote_media import RemoteMedia
from services.gateway.media.request_media import MediaLimits
from services.gateway.media.videos import VideoBounds
from services.gateway.metrics import GatewayMetrics
from services.gateway.pipeline.batch import BatchPipeline
from services.gateway.pipeline.failover_policy import FailoverPolicy
from services.gateway.pipeline.output.choices import ChoiceMaker
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.pipeline.prompt.encoding import VisionStage
from services.gateway.pipeline.prompt.limits import RequestRules
from services.gateway.pipeline.prompt.rendering import Renderer
from services.gateway.pipeline.prompt.tokenizing import Tokenizing
from services.gateway.readiness import Readiness
from services.gateway.request_log import RequestLog
from services.gateway.rpc.bounds import connection_options, request_reader
from services.gateway.rpc.calls import Calls
from services.gateway.rpc.chat import ChatServicer
from services.gateway.rpc.generation import GenerationServicer
from services.gateway.rpc.key_interceptor import KeyInterceptor
from services.gateway.rpc.log_levels import LogLevels
from services.gateway.rpc.models import ModelServicer
from services.gateway.rpc.operator_server import OperatorServer
from services.gateway.served_model import ServedModel
from services.gateway.waiting import Waiting
from services.gateway.workers.discovery import Discovery
from services.gateway.workers.pool import DECODE, PREFILL, VISION, WorkerPool
from services.gateway.workers.router import Router

log = structlog.get_logger()

_SERVICES = tuple(f"perigee.v1.{name}" for name in ("ChatService", "GenerationService", "ModelService"))
_ROLES = (VISION, PREFILL, DECODE)
_HEALTH_POLL_S = 0.2
# Three times that, for last events, for connections and for workers, are less than graces.GATEWAY_CLOSE_S.
_CLOSE_S = 1.0


class Gateway:
    """Made on the event loop; `start` binds all ports, `stop` drains and closes everything.

    Raises CheckpointError when the checkpoint directory lacks what the gateway needs, ConfigError when a port
    is taken, or for origins and hosts that are none.
    """

    def __init__(
        self,
        config: GatewayConfig,
        endpoints: Endpoints,
        network: httpcore.AsyncNetworkBackend | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """`network`: how hosts of media are reached; by default only public addresses are. `tracer`: of the
        requests' traces.
        """
        self._config = config
        self._endpoints = endpoints
        self._model = _served_model(config).with_aliases(config.model_alias)
        self.pool = WorkerPool(*config.pools, endpoints)
        pools = {role: parse_pool(pool) for role, pool in zip(_ROLES, config.pools, strict=True)}
        # A thread per entry, and others for media: no name waits for another one's thread.
        names = NameResolver(sum(map(len, pools.values())))
        self._discovery = Discovery(pools, self.pool.update, config.discovery_seconds, names.addresses)
        self._metrics = GatewayMetrics(new_registry(endpoints.role))
        self._metrics.registry.register(WorkerCounts(self.pool))
        self._processes = (
            ProcessMetrics(Path(config.crew), self._metrics.registry, endpoints) if config.crew else None
        )
        self._admission = Admission(config.max_concurrent_requests, self._metrics)
        self._gatekeeper = Gatekeeper(() if config.api_keys else None, _usages(config))
        self._key_watch = (
            KeyWatch(Path(config.api_keys), self._gatekeeper.replace) if config.api_keys else None
        )
        self._requests = RequestLog(self._metrics, tracer)
        self._calls = Calls(self._admission, self._gatekeeper, self._requests)
        self._readiness = Readiness(self.pool, self._admission)
        self._constraints = ConstraintBuilder(self._model.chat, closes_calls=config.close_cut_calls)
        self._downloader = Downloader(
            AllowedHosts(config.allowed_media_hosts),
            config.media_timeout_seconds,
            network or PinnedNetwork(NameResolver(MOST_AT_ONCE).addresses, httpcore.AnyIOBackend()),
        )
        self._remote = RemoteMedia(self._downloader, _media_limits(config), config.max_body_bytes)
        self._pipeline = self._build_pipeline()
        self._tokenizing = Tokenizing(self._model, self.pool, self._remote, config.request_timeout_seconds)
        budget = ByteBudget(config.max_held_bytes)
        self._http = HttpServer(
            self._build_app(BodyReader(budget, config.max_body_bytes, config.body_timeout_seconds)),
            endpoints,
            config.host,
            config.http_port,
            Patience(config.max_header_bytes, config.header_timeout_seconds, config.keep_alive_seconds),
            Waiting(config.max_waiting_connections),
            share_port=bool(config.crew),
        )
        self._grpc = endpoints.grpc_server(
            [
                KeyInterceptor(self._gatekeeper, RPCS, self._admission),
                request_reader(config, budget, self._calls),
            ],
            max_message_bytes=config.max_body_bytes,
            share_port=bool(config.crew),
            more_options=connection_options(config),
            door=True,
        )
        self._add_servicers(self._grpc)
        shared = Path(config.crew).parent / "log_level" if config.crew else None
        self._levels = LogLevels(self.pool, shared, self._requests.rebind)
        self._operators = OperatorServer(
            self.pool,
            self._levels,
            endpoints,
            self._gatekeeper,
            config.operator_host,
            config.operator_port,
            share_port=bool(config.crew),
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.grpc_port = 0

    @property
    def http_port(self) -> int:
        """The REST port, known once started."""
        return self._http.port

    @property
    def operator_port(self) -> int:
        """The operators' gRPC port, known once started."""
        return self._operators.port

    async def start(self) -> None:
        """Watches the workers and opens all ports; requests before the workers are up get 503.

        Raises ConfigError for a file of API keys that is not valid.
        """
        if self._key_watch is not None:
            self._key_watch.start()
            self._tasks.append(asyncio.create_task(self._key_watch.run()))
            self._tasks.append(asyncio.create_task(self._admission.meter()))
        health = await add_health(self._grpc, _SERVICES)
        self.grpc_port = self._endpoints.bind_grpc(
            self._grpc, self._config.host, self._config.grpc_port, "--grpc-port", door=True
        )
        self._tasks.append(asyncio.create_task(self._discovery.run()))
        await self._discovery.first_look()
        await self._grpc.start()
        await self._http.start()
        await self._operators.start()
        if self._processes is not None:
            await self._processes.start()
        running = (self._follow_health(health), self.pool.run())
        self._tasks += [asyncio.create_task(work) for work in running]
        log.info(
            "gateway ready",
            http=f"{self._config.host}:{self.http_port}",
            grpc=f"{self._config.host}:{self.grpc_port}",
            operator=f"{self._config.operator_host}:{self.operator_port}",
            models=",".join(self._model.names),
            model_profile=self._model.profile.name,
            because=self._model.profile_because,
        )

    async def stop(self) -> None:
        """Admits nothing more and lets what runs finish for up to `grace_seconds`; what still runs then ends
        with ShuttingDown.
        """
        self._admission.close()
        if not await self._admission.idle(self._config.grace_seconds):
            count = self._admission.cut_off()
            log.warning("requests cut off", seconds=self._config.grace_seconds, requests=count)
            await self._admission.idle(_CLOSE_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Both send what was written last.
        await asyncio.gather(self._http.stop(), self._grpc.stop(grace=_CLOSE_S))
        if self._processes is not None:
            await self._processes.stop()
        await self._operators.stop()
        with contextlib.suppress(TimeoutError):  # a replaced channel may linger
            async with asyncio.timeout(_CLOSE_S):
                await self.pool.stop()
        self._tokenizing.close()
        await self._downloader.close()
        self._constraints.close()

    def _build_pipeline(self) -> Pipeline:
        config = self._config
        router = Router(self.pool)
        return Pipeline(
            model=self._model,
            rules=RequestRules(
                config.max_messages, config.max_tools, config.max_prompt_characters, config.profile
            ),
            pool=self.pool,
            router=router,
            renderer=Renderer(self._model, self._remote),
            vision=VisionStage(router, config.encode_timeout_seconds),
            choices=ChoiceMaker(
                self._model.chat,
                reasoning=config.reasoning_parser == KIMI_K2,
                tool_calls=config.tool_call_parser == KIMI_K2,
            ),
            constraints=self._constraints,
            timeout_s=config.request_timeout_seconds,
            failover=FailoverPolicy(
                first_token_s=config.first_token_timeout_seconds,
                token_s=config.token_timeout_seconds,
                worker_wait_s=config.worker_wait_seconds,
                max_failovers=config.max_failovers,
            ),
        )

    def _build_app(self, bodies: BodyReader) -> App:
        config = self._config
        return App(
            DoorParts(
                pipeline=self._pipeline,
                batches=BatchPipeline(self._pipeline, self._admission, "rest"),
                tokenizing=self._tokenizing,
                model=self._model,
                pool=self.pool,
                readiness=self._readiness,
                metrics=MetricsPage(self._metrics, self.pool, self._processes),
                admission=self._admission,
                bodies=bodies,
                keep_alive=KeepAlive(config.sse_keep_alive, config.sse_keep_alive_seconds),
                requests=self._requests,
                ignored=IgnoredFields(self._metrics, strict=config.strict_fields),
                directory=config.tokenizer or config.model,
                reasoning=config.reasoning_field,
                asks_for_keys=self._gatekeeper.asks,
                drops_billing=config.billing_header == "drop",
            ),
            HostCheck(config.allowed_hosts),
            Cors(config.cors_origins),
            self._gatekeeper,
        )

    def _add_servicers(self, server: grpc.aio.Server) -> None:
        silence_s = self._config.sse_keep_alive_seconds
        chat_pb2_grpc.add_ChatServiceServicer_to_server(
            ChatServicer(self._pipeline, self._calls, silence_s, self._model.profile), server
        )
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(
            GenerationServicer(self._pipeline, self._calls, self._tokenizing, silence_s), server
        )
        models_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(self._model, self.pool), server)

    async def _follow_health(self, health: Health) -> None:
        """Keeps grpc.health.v1 equal to GET /ready, with one service per ability in its body and `workers`:
        every configured role has a worker that serves; on the operator port with one per worker.
        """
        said: tuple[bool, ...] = ()
        while True:
            state = self._readiness
            now = state.ready, state.text, state.images, not self.pool.missing_roles(), state.stopping
            if now != said:
                ready, text, images, workers, draining = said = now
                await (health.set_serving() if ready else health.set_not_serving())
                await health.say("text", serving=text)
                await health.say("images", serving=images)
                await health.say("workers", serving=workers)
                await health.say(DRAINING, serving=draining)
                await self._operators.say_ready(ready=ready, workers=workers, draining=draining)
            await self._operators.say_workers()
            self._levels.follow()
            await asyncio.sleep(_HEALTH_POLL_S)


def _served_model(config: GatewayConfig) -> ServedModel:
    if config.tokenizer:
        return ServedModel.of_tokenizer(Path(config.tokenizer), config.served_names, config.model_profile)
    return ServedModel.from_dir(
        Path(config.model), config.served_names, bool(config.vision), config.model_profile
    )


def _usages(config: GatewayConfig) -> UsageStore:
    if not config.crew:
        return UsageStore()
    own = Path(config.crew)
    return UsageStore(own.parent / "usage", int(own.name), config.processes)


def _media_limits(config: GatewayConfig) -> MediaLimits:
    return MediaLimits(
        ImageLimits(
            config.max_images, config.max_image_bytes, config.max_image_pixels, config.image_preprocess
        ),
        VideoBounds(
            config.max_videos,
            config.max_video_bytes,
            VideoLimits(config.max_video_pixels, config.max_video_frames, config.max_video_seconds),
        ),
    )
