"""The process of a rank other than 0: it runs what rank 0 sends."""

from __future__ import annotations

import signal
import threading
from multiprocessing import parent_process
from multiprocessing.connection import Connection

import torch
from torch import Tensor, distributed

from services.common.parent_death import die_with_parent
from services.engine.batch import DeviceTokens
from services.engine.kv_cache.kv_pages import kv_region
from services.engine.kv_transfer.remote_reader import serve_reads
from services.engine.loading.for_worker import load_for
from services.engine.ranks.meeting import Meeting
from services.engine.ranks.page_lists import PageListReceiver
from services.engine.ranks.process_group import shorten_patience
from services.engine.ranks.rank_messages import RankWork, decode
from services.engine.ranks.rank_plan import RankPlan
from services.engine.runner import ModelRunner


def follow(
    plan: RankPlan, rank: int, port: int, memory: str, pipe: Connection, reads: Connection | None
) -> None:
    """Runs the batches and page spreads that rank 0 sends, until it closes the pipe.

    Ignores SIGINT and SIGTERM: rank 0 handles them and finishes what is running. If rank 0's process ends,
    the kernel kills this one, in whatever call it waits.
    """
    if (leader := parent_process()) is not None:
        die_with_parent(leader.pid or 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(plan.threads)
    device = plan.device_of(rank)
    meeting = Meeting.join(port, rank, plan.ranks)
    group = plan.join(rank, meeting)
    kv_pages = plan.open_pages(rank, memory)
    model, steps = load_for(
        plan.model,
        plan.deterministic,
        plan.dtype,
        kv_pages,
        plan.kv_format,
        kernels=plan.kernels,
        decodes=plan.decodes,
        group=group,
    )
    runner = ModelRunner(model, kv_pages, 1, decode_steps=steps, kv_format=plan.kv_format)
    if plan.open_transfer is not None and reads is not None:
        transfer = plan.open_transfer([kv_region(kv_pages)], rank)
        transfer.start()
        threading.Thread(target=serve_reads, args=(reads, transfer), name="rank-reads", daemon=True).start()
    meeting.wait_for_all("ready")
    shorten_patience()
    page_lists = PageListReceiver()

    def embeddings(rows: int) -> Tensor:
        values = torch.empty(rows, model.config.hidden_size, dtype=plan.dtype, device=device)
        distributed.broadcast(values, 0)
        return values

    while True:
        try:
            message = decode(pipe.recv_bytes())
        except EOFError:
            return
        if isinstance(message, RankWork):
            batch = message.batch(page_lists.unpack(message.sequences), embeddings)
            runner.forward(batch.to(device), late=_late(message.late_rows, device))
        else:
            message.run(kv_pages, rank)


def _late(rows: tuple[int, ...], device: torch.device) -> DeviceTokens | None:
    if not rows:
        return None
    token_ids = torch.empty(len(rows), dtype=torch.int64, device=device)
    distributed.broadcast(token_ids, 0)
    return DeviceTokens(rows, token_ids)
