"""A whole decode engine and a whole prefill worker, one process, over real gRPC and the in-memory transport,
without checksums.
"""

from __future__ import annotations

import torch

from perigee.v1 import prefill_pb2, prefill_pb2_grpc
from services.decode.prompts.fetch import FetchOrder
from services.decode.prompts.remote_prefill import RemotePrefill
from services.decode.request import Prompt
from services.engine.kv_transfer.agents.memory_agent import MemoryFabric
from services.engine.serving.loop import EngineLoop
from tests.support.decode_bench import Bench, Heard, RecordedIO, prompt_of
from tests.support.fake_runner import HIDDEN, NUM_LAYERS, fake_pages
from tests.support.owner import peer_directory, transfer_thread
from tests.support.prefill_worker import PrefillWorker
from tests.support.waiting import until

PROMPT = prompt_of(151)
PAGES = 3
"""Pages of the prompt that decode asks for."""


class Fetching(RecordedIO):
    """Orders are carried out."""

    remote: RemotePrefill

    def start_fetch(self, prompt: Prompt, order: FetchOrder) -> None:
        super().start_fetch(prompt, order)
        self.remote.start(prompt, order)

    def stop_fetch(self, prompt: Prompt) -> None:
        self.remote.stop(prompt)


class FetchingSuite:
    """A decode worker "decode-1", a prefill worker with few pages, and another reader of it, "other-1"."""

    def __init__(self, prefill_pages: int = 4, max_waiting: int = 4) -> None:
        self.fabric = MemoryFabric()
        self.worker = PrefillWorker(
            "prefill-a",
            self.fabric,
            num_pages=prefill_pages,
            checksum_fraction=0.0,
            max_waiting=max_waiting,
        )
        self.io = Fetching()
        self.bench = Bench(16, io=self.io)
        self.thread = transfer_thread("decode", self.fabric, self.bench.kv_pages, torch.zeros(2, 64, HIDDEN))
        self.peers = peer_directory("decode-1", self.thread, self.bench.kv_pages)
        engine = self.bench.engine
        self.failures: list[BaseException] = []
        self.loop = EngineLoop("decode", engine.step, self.failures.append, idle_wait_s=0.01)
        self.io.remote = RemotePrefill(
            self.peers,
            self.thread,
            NUM_LAYERS,
            5.0,
            verifies=True,
            on_admitted=lambda prompt: self.loop.post(lambda: engine.fetch_admitted(prompt)),
            on_end=lambda prompt, result: self.loop.post(lambda: engine.fetch_ended(prompt, result)),
            on_settled=lambda pages: self.loop.post(lambda: engine.pages_settled(pages)),
        )
        self.other_thread = transfer_thread("other", self.fabric, fake_pages(4), torch.zeros(2, 64, HIDDEN))
        self.others = peer_directory("other-1", self.other_thread, fake_pages(4))

    async def start(self) -> None:
        await self.worker.start()
        self.peer = await self.peers.get(self.worker.address, "prefill")
        self.other = await self.others.get(self.worker.address, "prefill")
        self.loop.start()

    async def read_slowly(self) -> Heard:
        """Submits the prompt; everything is computed and leased, nothing has been read yet."""
        self.fabric.held.add("prefill-a")
        request = self.bench.request(PROMPT, 4, prefill=[self.worker.address])
        self.loop.post(lambda: self.bench.engine.submit(request))
        load = lambda: self.worker.engine.load  # noqa: E731
        await until(lambda: load().computed_tokens == len(PROMPT) - 1 and not load().running)
        await until(lambda: self.thread.in_flight() > 0 and load().pages.leased == PAGES)
        return self.bench.heard[request.handle]

    async def use_all_pages(self) -> None:
        """Another reader's prompt fills every page of the prefill worker, and goes."""
        await until(self.worker.is_free)
        call = prefill_pb2_grpc.PrefillServiceStub(self.other.channel).Prefill()
        start = prefill_pb2.PrefillStart(
            token_ids=prompt_of(256, 3),
            reader_incarnation="other-1",
            reader_token=self.other.token,
            lease_key=7,
        )
        await call.write(prefill_pb2.PrefillRequest(start=start))
        while not (message := await call.read()).HasField("done"):
            assert not message.HasField("refused"), message
        call.cancel()
        self.other.settle([7])
        await until(self.worker.is_free)

    async def finish(self, heard: Heard) -> list[int]:
        """The tokens, once the reads have gone through."""
        self.fabric.held.clear()
        await until(lambda: heard.finish() or heard.errors or self.failures)
        assert (heard.errors, self.failures) == ([], [])
        return heard.tokens[0]

    async def close(self) -> None:
        self.fabric.held.clear()
        self.loop.stop()
        for peers in (self.peers, self.others):
            await peers.close()
        await self.worker.stop()
        self.thread.close()
        self.other_thread.close()
