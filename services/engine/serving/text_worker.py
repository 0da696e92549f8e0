"""The parts that prefill and decode workers share: a text model over pages, and peers to read from."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol, TypeVar

import structlog
import torch

from perigee.v1 import worker_pb2
from services.common.ids import incarnation
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.role import Role
from services.engine.kv_cache.kv_format import KvFormat
from services.engine.kv_cache.kv_pages import allocate_kv_pages, kv_layout, kv_region
from services.engine.kv_transfer.agents.offer_proto import offer_to_proto, report_to_proto
from services.engine.kv_transfer.opening import TransferOpening
from services.engine.kv_transfer.transfer_thread import TransferThread
from services.engine.leases.embedding_reader import (
    ROWS_DTYPE,
    ROWS_PER_PAGE,
    EmbeddingReader,
    row_page_bytes,
)
from services.engine.loading.for_worker import load_for
from services.engine.loading.hardware import (
    is_deterministic,
    parse_device,
    parse_dtype,
    parse_kv_format,
    parse_options,
)
from services.engine.loading.memory_plan import physical_bytes
from services.engine.loading.page_memory import check_pages
from services.engine.model.architectures import load_config
from services.engine.model.config.model_config import ModelConfig
from services.engine.model.tensor_group import NoGroup, TensorGroup
from services.engine.peers.directory import PeerDirectory
from services.engine.peers.pool_members import PoolMembers
from services.engine.ranks.rank_group import RankGroup
from services.engine.ranks.rank_plan import RankPlan
from services.engine.runner import ModelRunner
from services.engine.sampling.sampler import Draw
from services.engine.serving.context_length import served_context
from services.engine.serving.identity import model_identity
from services.engine.serving.page_count import PageSettings, page_count
from services.engine.serving.process_exit import GONE_S, exit_within
from services.engine.step_watch import StepWatch

T = TypeVar("T")

log = structlog.get_logger()

_LOOK_S = 0.5


class TextWorkerSettings(PageSettings, Protocol):
    """The settings that prefill and decode workers both have."""

    @property
    def model(self) -> str: ...
    @property
    def context_length(self) -> int: ...
    @property
    def staging_blocks(self) -> int: ...
    @property
    def deterministic(self) -> bool | None: ...
    @property
    def expected_transport(self) -> Literal["any", "rdma"]: ...
    @property
    def transfer_options(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str | None: ...
    @property
    def kv_format(self) -> str | None: ...
    @property
    def threads(self) -> int: ...
    @property
    def tp(self) -> int: ...
    @property
    def expert_parallel(self) -> bool: ...
    @property
    def dp_attention(self) -> bool: ...


@dataclass(frozen=True)
class TextWorker:
    """The parts, ready to use; `info` is complete except for the metrics port."""

    config: ModelConfig
    kv_pages: torch.Tensor
    runner: ModelRunner
    transfer: TransferThread
    peers: PeerDirectory
    embeddings: EmbeddingReader
    info: worker_pb2.WorkerInfo
    offer: worker_pb2.MemoryOffer
    watch: StepWatch
    ranks: RankGroup | None = None

    @property
    def name(self) -> str:
        """The name of this incarnation."""
        return self.info.incarnation

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.config.text.vocab_size

    def check_ranks(self) -> None:
        """Raises Unavailable if another rank has ended."""
        if self.ranks is not None:
            self.ranks.check()

    async def abort_ranks(self) -> None:
        """Ends the other ranks at once, so that nothing waits for them."""
        if self.ranks is not None:
            await asyncio.to_thread(self.ranks.abort)

    async def close(self) -> None:
        """Ends handshakes, then the transfer thread, then the other ranks."""
        await self.peers.close()
        await asyncio.to_thread(self.transfer.close)
        if self.ranks is not None:
            await asyncio.to_thread(self.ranks.close)


async def build_text_worker(
    settings: TextWorkerSettings,
    endpoints: Endpoints,
    role: worker_pb2.WorkerRole.ValueType,
    layers_per_group: int = 0,
    pools: Mapping[Role, PoolMembers] = MappingProxyType({}),
) -> TextWorker:
    """Loads the checkpoint, allocates and registers the pages, tests the transport. Event loop only.

    layers_per_group 0: a quarter of the layers, rounded up. `pools`: as in PeerDirectory. Raises
    CheckpointError, ConfigError, TransferFailed.
    """
    directory = Path(settings.model)
    config = load_config(directory)
    text = config.text
    device = parse_device(settings.device)
    num_pages = await asyncio.to_thread(page_count, settings, config, device)
    staging_bytes = row_page_bytes(text.hidden_size)
    check_pages("staging_blocks", settings.staging_blocks, staging_bytes, physical_bytes())
    context_length = served_context(settings.context_length, text.max_position_embeddings, num_pages)
    log.info("loading", model=str(directory), device=str(device), kv_pages=num_pages)
    name = incarnation(worker_pb2.WorkerRole.Name(role).removeprefix("WORKER_ROLE_").lower())
    opening = TransferOpening(name, parse_options(settings.transfer_options), settings.expected_transport)
    dtype = parse_dtype(settings.dtype, device)
    kv_format = parse_kv_format(settings.kv_format, dtype, device)
    deterministic = is_deterministic(settings.deterministic, device)
    group: TensorGroup = NoGroup()
    on_gpu = device.type == "cuda"
    decodes = role == worker_pb2.WORKER_ROLE_DECODE
    ranks = (
        await asyncio.to_thread(
            _group,
            settings,
            endpoints,
            num_pages,
            directory,
            device,
            dtype,
            kv_format,
            deterministic,
            decodes,
            opening,
        )
        if settings.tp != 1
        else None
    )
    if ranks is None:
        shape = (num_pages, text.num_hidden_layers, text.kv_width)
        kv_pages = allocate_kv_pages(*shape, kv_format, device)
    else:
        kv_pages, group = ranks.kv_pages, ranks.group
    async with _ended_if_it_fails(ranks):
        load = partial(load_for, kernels=on_gpu, decodes=decodes, group=group)
        model, steps = await _beside(
            ranks, asyncio.to_thread(load, directory, deterministic, dtype, kv_pages, kv_format)
        )
        if ranks is not None:
            await _beside(ranks, asyncio.to_thread(ranks.wait_until_ready))
        staging = torch.zeros(settings.staging_blocks, ROWS_PER_PAGE, text.hidden_size, dtype=ROWS_DTYPE)
        regions = [kv_region(kv_pages), EmbeddingReader.region(staging)]
        others = ranks.readers if ranks is not None else ()
        transfer = opening.shared(regions, others, text.num_hidden_layers) if others else opening(regions)
        report = await asyncio.to_thread(transfer.start)
        identity = model_identity(directory, config, context_length)
    watch = StepWatch()
    if on_gpu:
        from services.engine.kernel_model.compilation import before_compilation

        before_compilation(watch.exempt)
    layout = kv_layout(kv_pages, kv_format)
    hello = worker_pb2.ReaderHello(incarnation=name, role=role, model=identity, layout=layout)
    peers = PeerDirectory(hello, transfer, endpoints, pools)
    return TextWorker(
        config=config,
        kv_pages=kv_pages,
        runner=ModelRunner(
            model,
            kv_pages,
            layers_per_group or -(-text.num_hidden_layers // 4),
            ranks,
            steps,
            kv_format,
            watch,
        ),
        transfer=transfer,
        peers=peers,
        embeddings=EmbeddingReader(peers, transfer, staging),
        info=worker_pb2.WorkerInfo(
            role=role,
            incarnation=name,
            version=importlib.metadata.version("perigee"),
            model=identity,
            layout=layout,
            transport=report_to_proto(report),
            deterministic=deterministic,
            pid=os.getpid(),
        ),
        offer=offer_to_proto(transfer.offer()),
        watch=watch,
        ranks=ranks,
    )


async def _beside(ranks: RankGroup | None, work: Awaitable[T]) -> T:
    """The result of `work`, which waits for the other ranks. If one of them ends, that would be for long:
    raises Unavailable then.
    """
    task = asyncio.ensure_future(work)
    while ranks is not None and not (await asyncio.wait({task}, timeout=_LOOK_S))[0]:
        ranks.check()
    return await task


@asynccontextmanager
async def _ended_if_it_fails(ranks: RankGroup | None) -> AsyncIterator[None]:
    """Ends the other ranks if the block fails, and this process within 10 s: collectives of the others wait
    for this rank, and so may the end of its own group.
    """
    try:
        yield
    except BaseException:
        if ranks is not None:
            exit_within(GONE_S)
            await asyncio.to_thread(ranks.abort)
        raise


def draw_on(device: torch.device) -> Draw | None:
    """The function that draws tokens on the device of the logits; None: the host draws them."""
    if device.type == "cpu":
        return None
    from services.engine.kernel_model.draw import draw_on_device

    return draw_on_device


def _group(
    settings: TextWorkerSettings,
    endpoints: Endpoints,
    num_pages: int,
    directory: Path,
    device: torch.device,
    dtype: torch.dtype,
    kv_format: KvFormat,
    deterministic: bool,
    decodes: bool,
    opening: TransferOpening,
) -> RankGroup:
    on_gpus = device.type == "cuda"
    return RankGroup(
        RankPlan(
            ranks=settings.tp,
            model=directory,
            deterministic=deterministic,
            dtype=dtype,
            kv_format=kv_format,
            threads=settings.threads,
            num_pages=num_pages,
            whole_experts=settings.expert_parallel,
            whole_attention=settings.dp_attention,
            device=device,
            kernels=on_gpus,
            own_pages=on_gpus,
            decodes=decodes,
            open_transfer=opening if on_gpus else None,
        ),
        endpoints.bound_socket("127.0.0.1", 0, "--tp"),
    )
