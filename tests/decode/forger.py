"""Sends forged messages in a decode worker's name to the prefill worker that it reads from."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import Counter
from collections.abc import Callable

import grpc

from perigee.v1 import prefill_pb2, prefill_pb2_grpc, vision_pb2, worker_pb2, worker_pb2_grpc

# What grpc's client itself makes of a message that is written while the server ends the call.
_WRITTEN_TOO_LATE = "Internal error from Core"
NEAR_KEYS = 64
"""Lease keys of the victim that are forged, around the one it uses now."""


class Forger:
    """Sends forged messages, one kind after another, until it is cancelled. `answers` counts the status codes
    by kind.

    It knows what the victim's GetInfo tells and, by `keys_used`, how many lease keys the victim has used, but
    no reader token.
    """

    def __init__(
        self, channel: grpc.aio.Channel, victim: worker_pb2.WorkerInfo, keys_used: Callable[[], int]
    ) -> None:
        """`channel`: to the prefill worker."""
        self._victim = victim
        self._keys_used = keys_used
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
        now = self._keys_used()
        return range(max(1, now - NEAR_KEYS), now + NEAR_KEYS)

    async def _hello(self, token: bytes) -> None:
        """A handshake in the victim's name, which settles all its leases."""
        call = self._worker.Handshake()
        settled = worker_pb2.SettledLeases(lease_keys=self._keys(), reader_token=token)
        messages = (
            self._greeting(self._victim.incarnation, token),
            worker_pb2.HandshakeRequest(settled=settled),
        )
        await self._send("hello", call, *messages)

    async def _start(self, token: bytes) -> None:
        """A prompt in the victim's name, under the key that it will use next."""
        start = prefill_pb2.PrefillStart(
            token_ids=[1] * 65,
            reader_incarnation=self._victim.incarnation,
            reader_token=token,
            lease_key=self._keys()[-1],
        )
        await self._send("start", self._prefill.Prefill(), prefill_pb2.PrefillRequest(start=start))

    async def _settled_under_another_name(self, token: bytes) -> None:
        """A handshake of the forger's own, in which it settles the victim's leases."""
        call, _, own = await self._pair()
        settled = [
            worker_pb2.SettledLeases(lease_keys=self._keys(), reader_token=each) for each in (own, token)
        ]
        await self._send("settled", call, *(worker_pb2.HandshakeRequest(settled=each) for each in settled))

    async def _release_of_another_lease(self) -> None:
        """A call of the forger's own, which releases the lease granted before: the victim's, mostly."""
        pairing, name, token = await self._pair()
        start = prefill_pb2.PrefillStart(
            token_ids=[2], reader_incarnation=name, reader_token=token, lease_key=1
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
            pairing.cancel()  # a reader that is gone has no leases

    async def _pair(self) -> tuple[grpc.aio.StreamStreamCall, str, bytes]:
        """Pairs under a new name; returns the stream, the name and its token."""
        call, name = self._worker.Handshake(), f"forger-{secrets.token_hex(4)}"
        await call.write(self._greeting(name, b""))
        return call, name, (await call.read()).offer.reader_token

    def _greeting(self, name: str, token: bytes) -> worker_pb2.HandshakeRequest:
        hello = worker_pb2.ReaderHello(
            incarnation=name,
            role=worker_pb2.WORKER_ROLE_DECODE,
            model=self._victim.model,
            layout=self._victim.layout,
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
        if code == "INTERNAL" and await call.details() == _WRITTEN_TOO_LATE:
            return  # the call had ended, and nobody knows any more how
        self.answers[kind, code] += 1
