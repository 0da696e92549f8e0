"""Requests that decode and prefill workers serve while somebody sends forged messages in decode's name.

`python -m tests.decode.forgery [--requests N] [--seed S]` serves N requests, four at a time, over real gRPC,
a model without weights and the in-memory transport. The forger knows decode's name, its lease keys and every
address, but no reader token. It stops at the first wrong text, and fails if any forged message is accepted or
changes what becomes of a request.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import random
import secrets
import sys
import time
from collections import Counter

import grpc
import structlog

from perigee.v1 import prefill_pb2, prefill_pb2_grpc, vision_pb2, worker_pb2, worker_pb2_grpc
from services.engine.kv_cache.kv_pages import kv_layout
from tests.decode.fetching_suite import FetchingSuite
from tests.support.endpoints import open_channel
from tests.support.fake_runner import greedy
from tests.support.owner import MODEL
from tests.support.waiting import until

VICTIM = "decode-1"
AT_ONCE = 4
NEAR_KEYS = 64
"""Lease keys of the victim that are forged, around the one it uses now."""


class Forger:
    """Sends forged messages, one kind after another, until it is cancelled. `answers` counts the status codes
    by kind.
    """

    def __init__(self, suite: FetchingSuite, channel: grpc.aio.Channel) -> None:
        self._suite = suite
        self._worker = worker_pb2_grpc.WorkerServiceStub(channel)
        self._prefill = prefill_pb2_grpc.PrefillServiceStub(channel)
        self.answers: Counter[tuple[str, str]] = Counter()

    async def run(self) -> None:
        for number in itertools.count():
            token = (b"", secrets.token_bytes(16))[number % 2]
            await self._hello(token)
            await self._start(token)
            await self._settled_under_another_name(token)
            await self._release_of_another_lease()

    def _keys(self) -> range:
        now = len(self._suite.io.orders)
        return range(max(1, now - NEAR_KEYS), now + NEAR_KEYS)

    async def _hello(self, token: bytes) -> None:
        """A handshake in the victim's name, which settles all its leases."""
        call = self._worker.Handshake()
        settled = worker_pb2.SettledLeases(lease_keys=self._keys(), reader_token=token)
        messages = (self._greeting(VICTIM, token), worker_pb2.HandshakeRequest(settled=settled))
        await self._send("hello", call, *messages)

    async def _start(self, token: bytes) -> None:
        """A prompt in the victim's name, under the key that it will use next."""
        start = prefill_pb2.PrefillStart(
            token_ids=[1] * 65, reader_incarnation=VICTIM, reader_token=token, lease_key=self._keys()[-1]
        )
        await self._send("start", self._prefill.Prefill(), prefill_pb2.PrefillRequest(start=start))

    async def _settled_under_another_name(self, token: bytes) -> None:
        """A handshake of the forger's own, in which it settles the victim's leases."""
        call = self._worker.Handshake()
        await call.write(self._greeting(f"forger-{secrets.token_hex(4)}", b""))
        own = (await call.read()).offer.reader_token
        settled = [
            worker_pb2.SettledLeases(lease_keys=self._keys(), reader_token=each) for each in (own, token)
        ]
        await self._send("settled", call, *(worker_pb2.HandshakeRequest(settled=each) for each in settled))

    async def _release_of_another_lease(self) -> None:
        """A call of another reader, which releases the lease granted before its own: the victim's, mostly."""
        other, number = self._suite.other, self._suite.others.next_lease_key()
        start = prefill_pb2.PrefillStart(
            token_ids=[2], reader_incarnation=other.reader, reader_token=other.token, lease_key=number
        )
        call = self._prefill.Prefill()
        try:
            await call.write(prefill_pb2.PrefillRequest(start=start))
            granted = (await call.read()).admitted.lease
            release = vision_pb2.LeaseRelease(
                lease_id=granted.lease_id - 1, generation=granted.generation - 1
            )
            await self._send("release", call, prefill_pb2.PrefillRequest(release=release))
        finally:
            call.cancel()
            other.settle([number])

    def _greeting(self, name: str, token: bytes) -> worker_pb2.HandshakeRequest:
        hello = worker_pb2.ReaderHello(
            incarnation=name,
            role=worker_pb2.WORKER_ROLE_DECODE,
            model=MODEL,
            layout=kv_layout(self._suite.bench.kv_pages),
            reader_token=token,
        )
        return worker_pb2.HandshakeRequest(hello=hello)

    async def _send(self, kind: str, call: grpc.aio.StreamStreamCall, *messages: object) -> None:
        """Sends messages and reads until the call ends."""
        try:
            for message in messages:
                await call.write(message)
            code = ""
            while (answer := await call.read()) is not grpc.aio.EOF:
                if answer.WhichOneof("message") == "refused":
                    code = "REFUSED"
                elif answer.WhichOneof("message") not in ("ready", "done"):
                    code = "ACCEPTED"
            code = code or (await call.code()).name
        except grpc.aio.AioRpcError as error:
            code = error.code().name
        except asyncio.InvalidStateError:  # a write on a call that has ended
            code = (await call.code()).name
        finally:
            call.cancel()
        self.answers[kind, code] += 1


async def serve(requests: int, seed: int = 1) -> Counter[tuple[str, str]]:
    """Serves that many requests beside a forger and returns its answers.

    Raises AssertionError for a wrong text, a failed request, and a prompt that was fetched twice.
    """
    suite = FetchingSuite(prefill_pages=24, max_waiting=32)
    await suite.start()
    turns, draw = asyncio.Semaphore(AT_ONCE), random.Random(seed)

    async def request(prompt: list[int]) -> None:
        async with turns:
            made = suite.bench.request(prompt, 2, prefill=[suite.worker.address])
            heard = suite.bench.heard[made.handle]
            suite.loop.post(lambda: suite.bench.engine.submit(made))
            await until(lambda: heard.finish() or heard.errors or suite.failures, 30.0)
            assert (heard.errors, suite.failures) == ([], []), (heard.errors, suite.failures)
            assert heard.tokens[0] == greedy(prompt, 2), "a wrong text"

    async with open_channel(suite.worker.address) as channel:
        forger = Forger(suite, channel)
        forging = asyncio.create_task(forger.run())
        try:
            prompts = ([draw.randrange(64) for _ in range(draw.randint(66, 190))] for _ in range(requests))
            await asyncio.gather(*(request(prompt) for prompt in prompts))
            assert not forging.done(), forging.exception()
        finally:
            forging.cancel()
            await asyncio.wait([forging])
    await until(suite.worker.is_free)
    assert len(suite.io.orders) == requests, "a prompt was fetched again"
    await suite.close()
    return forger.answers


def main(arguments: list[str] | None = None) -> int:
    """Prints the forged messages by kind and answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    began = time.monotonic()
    answers = asyncio.run(serve(args.requests, args.seed))
    print(f"{args.requests} requests, 0 wrong texts, 0 fetched again, {time.monotonic() - began:.1f} s")
    for (kind, code), count in sorted(answers.items()):
        print(f"{count:6} forged {kind}: {code}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
