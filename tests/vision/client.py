"""A reader's and a gateway's side of a vision worker, over real gRPC, and the worker's process."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from perigee.v1 import vision_pb2, vision_pb2_grpc, worker_pb2, worker_pb2_grpc
from tests.support.endpoints import open_sync_channel
from tests.support.nursery import NurseryProcess, shared_nursery
from tests.support.waiting import wait_until

TIMEOUT_S = 20.0


class Uplink:
    """Messages of a stream, sent one by one."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()

    def send(self, message: object) -> None:
        self._queue.put(message)

    def half_close(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[object]:
        return iter(self._queue.get, None)


class Vision:
    """A running worker."""

    def __init__(self, process: NurseryProcess, address: str, metrics_port: int) -> None:
        self.process = process
        self.address = address
        self.metrics_port = metrics_port
        self.channel = open_sync_channel(address)
        self._vision = vision_pb2_grpc.VisionServiceStub(self.channel)
        self._worker = worker_pb2_grpc.WorkerServiceStub(self.channel)
        self._tokens: dict[str, bytes] = {}

    @classmethod
    def start(
        cls,
        model: Path,
        log: Path,
        environment: dict[str, str] | None = None,
        command: Sequence[str] = ("tests.vision.vision_process",),
        **flags: object,
    ) -> Vision:
        """`command`: the module to run, and its words after the settings."""
        module, *words = command
        port, metrics_port = free_port(), free_port()
        settings = {"model": model, "port": port, "metrics_port": metrics_port, **flags}
        arguments = json.dumps({name: str(value) for name, value in settings.items()})
        with log.open("ab") as file:
            process = shared_nursery().start(
                module, [arguments, *words], {**os.environ, **(environment or {})}, file
            )
        vision = cls(process, f"127.0.0.1:{port}", metrics_port)
        vision._wait_ready(log)
        return vision

    def stop(self) -> int:
        """Asks it to end; its exit code."""
        self.channel.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()

    def _wait_ready(self, log: Path) -> None:
        stub = health_pb2_grpc.HealthStub(self.channel)

        def is_ready() -> bool:
            with contextlib.suppress(grpc.RpcError):
                if stub.Check(health_pb2.HealthCheckRequest(), timeout=1).status == 1:
                    return True
            assert self.process.poll() is None, f"it ended:\n{log.read_text()}"
            return False

        wait_until(is_ready, 60, every_s=0.05, detail=lambda: f"it is not healthy:\n{log.read_text()}")

    def encode(self, image: bytes, content_hash: bytes = b"") -> vision_pb2.EncodeResponse:
        request = vision_pb2.EncodeRequest(image=image, content_hash=content_hash)
        return self._vision.Encode(request, timeout=TIMEOUT_S)

    def encode_video(self, video: bytes, content_hash: bytes = b"") -> list[vision_pb2.EncodeResponse]:
        request = vision_pb2.EncodeVideoRequest(video=video, content_hash=content_hash)
        return list(self._vision.EncodeVideo(request, timeout=TIMEOUT_S).chunks)

    def encode_later(self, image: bytes) -> grpc.Future:
        return self._vision.Encode.future(vision_pb2.EncodeRequest(image=image), timeout=TIMEOUT_S)

    def info(self) -> worker_pb2.WorkerInfo:
        return self._worker.GetInfo(worker_pb2.GetInfoRequest(), timeout=TIMEOUT_S)

    def pages(self) -> worker_pb2.PageCounts:
        stream = self._worker.WatchLoad(worker_pb2.WatchLoadRequest(), timeout=TIMEOUT_S)
        report = next(stream)
        stream.cancel()
        return report.pages

    def flush(self) -> worker_pb2.FlushResponse:
        return self._worker.Flush(worker_pb2.FlushRequest(), timeout=TIMEOUT_S)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as page:
            return page.read().decode()

    def pair(self, reader: str) -> Link:
        link = Link(self._worker, reader, self.info().model)
        self._tokens[reader] = link.offer.reader_token
        return link

    def lease(self, reader: str, key: int, *content_hashes: bytes) -> LeaseStream:
        return LeaseStream(self._vision, reader, self._tokens.get(reader, b""), key, content_hashes)


class Link:
    """A reader's handshake."""

    def __init__(
        self, stub: worker_pb2_grpc.WorkerServiceStub, reader: str, model: worker_pb2.ModelIdentity
    ) -> None:
        self._up = Uplink()
        hello = worker_pb2.ReaderHello(incarnation=reader, role=worker_pb2.WORKER_ROLE_DECODE, model=model)
        self._up.send(worker_pb2.HandshakeRequest(hello=hello))
        self._stream = stub.Handshake(iter(self._up))
        self.offer = next(self._stream).offer

    def settle(self, *keys: int) -> None:
        settled = worker_pb2.SettledLeases(lease_keys=keys, reader_token=self.offer.reader_token)
        self._up.send(worker_pb2.HandshakeRequest(settled=settled))

    def close(self) -> None:
        self._stream.cancel()
        self._up.half_close()


class LeaseStream:
    """One lease, as its reader drives it."""

    def __init__(
        self,
        stub: vision_pb2_grpc.VisionServiceStub,
        reader: str,
        token: bytes,
        key: int,
        content_hashes: tuple[bytes, ...],
    ) -> None:
        self._up = Uplink()
        start = vision_pb2.EmbeddingLeaseStart(
            reader_incarnation=reader, reader_token=token, content_hashes=content_hashes, lease_key=key
        )
        self._up.send(vision_pb2.EmbeddingLeaseRequest(start=start))
        self._stream = stub.Lease(iter(self._up), timeout=TIMEOUT_S)

    def granted(self) -> vision_pb2.EmbeddingLeaseGranted:
        granted = next(self._stream).granted
        self._lease = granted.lease
        return granted

    def renew(self) -> int:
        self._up.send(vision_pb2.EmbeddingLeaseRequest(renew=vision_pb2.LeaseRenew()))
        return next(self._stream).renewed.sequence

    def release(self) -> None:
        lease = vision_pb2.LeaseRelease(lease_id=self._lease.lease_id, generation=self._lease.generation)
        self._up.send(vision_pb2.EmbeddingLeaseRequest(release=lease))
        assert next(self._stream).released.generation == lease.generation
        assert next(self._stream, None) is None

    def half_close(self) -> None:
        self._up.half_close()
        assert next(self._stream, None) is None

    def cancel(self) -> None:
        self._stream.cancel()
        self._up.half_close()


def free_port() -> int:
    """A port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
