"""A vision worker as a process: encode, lease, read over NIXL, end."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import torch

from services.common.errors import InvalidRequest
from services.common.rpc.status import from_rpc_error
from services.engine.loading.vision import load_vision_model
from services.families.kimi.family import MEDIA
from services.families.media import chunk_hash
from services.vision.preprocess import preprocess_image
from tests.support.nursery import shared_nursery
from tests.support.videos import film
from tests.support.waiting import scaled, wait_until
from tests.vision.client import Vision
from tests.vision.tiny_checkpoint import write_checkpoint

PAGES = 8
HOLD_S = 1.0
LEASE_S = 3.0
SETTINGS = {
    "embedding_pages": PAGES,
    "hold_ms": int(HOLD_S * 1000),
    "lease_seconds": LEASE_S,
    "max_image_pixels": 1_000_000,
}
TCP = {"UCX_TLS": "tcp", "UCX_NET_DEVICES": "lo"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def vision(checkpoint, tmp_path_factory) -> Iterator[Vision]:
    worker = Vision.start(checkpoint, tmp_path_factory.mktemp("logs") / "vision.log", **SETTINGS)
    yield worker
    assert worker.stop() == 0


@pytest.fixture
def reader() -> str:
    return f"decode-{uuid.uuid4().hex}"


def fits(vision: Vision, image: bytes) -> bool:
    """Whether the worker takes the image; False while its pool is full."""
    try:
        return vision.encode(image).num_tokens > 0
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return False


def code_of(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code()


def read_elsewhere(checkpoint: Path, vision: Vision, image: bytes, out: Path, environment: dict[str, str]):
    """What another process reads of an image's embedding."""
    answer = vision.encode(image)
    arguments = (
        checkpoint,
        vision.address,
        answer.incarnation,
        answer.content_hash.hex(),
        answer.num_tokens,
        out,
    )
    log = out.with_suffix(".log")
    with log.open("wb") as output:
        reader = shared_nursery().start(
            "tests.vision.reader_process", [*map(str, arguments)], {**os.environ, **environment}, output
        )
    assert reader.wait(60) == 0, log.read_text()
    return torch.load(out)


def expected_rows(checkpoint: Path, image: bytes) -> torch.Tensor:
    patches = preprocess_image(image, 10_000_000, MEDIA)
    grid = (1, patches.grid.grid_h, patches.grid.grid_w)
    return load_vision_model(checkpoint).encode(torch.from_numpy(patches.pixels), grid)


def test_an_embedding_read_by_another_process_is_the_models_own(checkpoint, vision, image_file, tmp_path):
    image = image_file(260, 330, 1)
    rows = read_elsewhere(checkpoint, vision, image, tmp_path / "rows.pt", {})
    assert rows.shape == (120, 40)
    torch.testing.assert_close(rows, expected_rows(checkpoint, image), rtol=1e-5, atol=1e-5)
    wait_until(lambda: vision.pages().leased + vision.pages().quarantined == 0)


def test_it_is_over_tcp_as_well_and_the_worker_ends_by_sigterm(checkpoint, image_file, tmp_path):
    worker = Vision.start(checkpoint, tmp_path / "vision.log", TCP, **SETTINGS | {"hold_ms": 10_000})
    try:
        image = image_file(260, 330, 2)
        rows = read_elsewhere(checkpoint, worker, image, tmp_path / "rows.pt", TCP)
        torch.testing.assert_close(rows, expected_rows(checkpoint, image), rtol=1e-5, atol=1e-5)
    finally:
        assert worker.stop() == 0


def test_encoding_again_finds_the_embedding_and_says_so(vision, image_file):
    image = image_file(60, 90, 3)
    first, second = vision.encode(image), vision.encode(image)
    assert (first.cached, second.cached) == (False, True)
    assert first.content_hash == second.content_hash == hashlib.sha256(image).digest()
    assert (first.grid_t, first.grid_h, first.grid_w, first.num_tokens) == (1, 8, 6, 12)
    assert first.hold_ms == SETTINGS["hold_ms"]
    assert first.incarnation == vision.info().incarnation


@pytest.mark.parametrize("spoil", [lambda image: image[: len(image) // 2], lambda image: b"not an image"])
def test_a_broken_image_is_an_invalid_argument_that_names_the_field(vision, image_file, spoil):
    with pytest.raises(grpc.RpcError) as caught:
        vision.encode(spoil(image_file(60, 60, 4)))
    error = from_rpc_error(caught.value)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(error, InvalidRequest)
    assert error.param == "image"


def test_an_image_of_too_many_pixels_is_an_invalid_argument(vision, image_file):
    assert code_of(lambda: vision.encode(image_file(1001, 1000))) is grpc.StatusCode.INVALID_ARGUMENT


def test_an_image_that_can_never_fit_the_pool_is_an_invalid_argument(vision, image_file):
    assert code_of(lambda: vision.encode(image_file(672, 700))) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_hash_of_another_image_is_an_invalid_argument(vision, image_file):
    wrong = hashlib.sha256(b"other").digest()
    assert code_of(lambda: vision.encode(image_file(), wrong)) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_full_pool_is_resource_exhausted_until_a_hold_ends(vision, image_file):
    wait_until(lambda: vision.flush().pages == 0 and vision.pages().free == PAGES)
    for seed in (5, 6):
        vision.encode(image_file(448, 448, seed))
    third = image_file(448, 448, 7)
    assert code_of(lambda: vision.encode(third)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    wait_until(lambda: fits(vision, third))


def test_leased_embeddings_keep_the_pool_full_beyond_their_hold(vision, image_file, reader):
    link = vision.pair(reader)
    wait_until(lambda: vision.flush().pages == 0 and vision.pages().free == PAGES)
    hashes = [vision.encode(image_file(448, 448, seed)).content_hash for seed in (8, 9)]
    lease = vision.lease(reader, 1, *hashes)
    granted = lease.granted()
    assert [len(pages.pages) for pages in granted.embeddings] == [4, 4]
    assert granted.lease.lease_id > 0
    assert granted.lease.duration_ms == LEASE_S * 1000
    time.sleep(HOLD_S)  # of the worker's own time: the hold ends, the lease does not
    third = image_file(448, 448, 10)
    assert code_of(lambda: vision.encode(third)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    lease.release()
    assert vision.encode(third).num_tokens == 256
    link.close()


def test_a_lease_without_a_handshake_is_refused_as_unavailable(vision, image_file, reader):
    content_hash = vision.encode(image_file()).content_hash
    lease = vision.lease(reader, 1, content_hash)
    assert code_of(lease.granted) is grpc.StatusCode.UNAVAILABLE


def test_a_lease_of_what_is_not_there_is_not_found(vision, reader):
    link = vision.pair(reader)
    assert code_of(vision.lease(reader, 1, b"\0" * 32).granted) is grpc.StatusCode.NOT_FOUND
    link.close()


def test_a_lease_without_key_or_hashes_is_an_invalid_argument(vision, reader):
    link = vision.pair(reader)
    assert code_of(vision.lease(reader, 0, b"\0" * 32).granted) is grpc.StatusCode.INVALID_ARGUMENT
    assert code_of(vision.lease(reader, 1).granted) is grpc.StatusCode.INVALID_ARGUMENT
    assert code_of(vision.lease(reader, 1, b"short").granted) is grpc.StatusCode.INVALID_ARGUMENT
    link.close()


def test_an_expired_lease_is_quarantined_until_its_reader_has_settled(vision, image_file, reader):
    link = vision.pair(reader)
    lease = vision.lease(reader, 7, vision.encode(image_file()).content_hash)
    lease.granted()
    for sequence in (1, 2):
        time.sleep(LEASE_S * 0.6)  # of the worker's own time: two of them are longer than a lease
        assert lease.renew() == sequence
        assert vision.pages().leased == 1
    wait_until(lambda: vision.pages().quarantined == 1)
    assert code_of(lease.renew) is grpc.StatusCode.NOT_FOUND
    link.settle(7)
    wait_until(lambda: vision.pages().quarantined == 0)
    link.close()


@pytest.mark.parametrize("end", ["cancel", "half_close"])
def test_a_stream_that_ends_without_release_is_quarantined_until_settled(vision, image_file, reader, end):
    link = vision.pair(reader)
    lease = vision.lease(reader, 3, vision.encode(image_file()).content_hash)
    lease.granted()
    getattr(lease, end)()
    wait_until(lambda: (vision.pages().leased, vision.pages().quarantined) == (0, 1))
    link.settle(3)
    wait_until(lambda: vision.pages().quarantined == 0)
    link.close()


def test_a_reader_whose_handshake_ends_leaves_nothing_behind(vision, image_file, reader):
    link = vision.pair(reader)
    content_hash = vision.encode(image_file()).content_hash
    held, broken = vision.lease(reader, 1, content_hash), vision.lease(reader, 2, content_hash)
    held.granted()
    broken.granted()
    broken.cancel()
    wait_until(lambda: vision.pages().quarantined == 1)
    link.close()
    wait_until(lambda: vision.pages().leased + vision.pages().quarantined == 0, timeout_s=1.0)
    held.cancel()


def test_a_lease_that_was_settled_before_it_arrived_is_refused(vision, image_file, reader):
    link = vision.pair(reader)
    content_hash = vision.encode(image_file()).content_hash
    broken = vision.lease(reader, 4, content_hash)
    broken.granted()
    broken.cancel()
    wait_until(lambda: vision.pages().quarantined == 1)
    link.settle(5)
    link.settle(4)
    wait_until(lambda: vision.pages().quarantined == 0)  # notices take effect in order: that of 5 has, too
    assert code_of(vision.lease(reader, 5, content_hash).granted) is grpc.StatusCode.CANCELLED
    link.close()


def test_flush_drops_what_nobody_needs(vision, image_file):
    image = image_file(60, 60, 11)
    vision.encode(image)
    assert vision.encode(image).cached
    wait_until(lambda: vision.flush().pages == 0 and vision.pages().free == PAGES)
    assert not vision.encode(image).cached


def test_the_metrics_page_shows_pages_requests_and_the_cache(vision, image_file):
    image = image_file(60, 60, 12)
    vision.encode(image)
    vision.encode(image)
    wait_until(lambda: "\nperigee_requests_running 0.0\n" in vision.metrics())  # told every 50 ms
    text = vision.metrics()
    for state in ("free", "used", "cached", "leased", "quarantined"):
        assert f'perigee_kv_pages{{state="{state}"}}' in text
    for name in ("requests_running", "requests_waiting", "kv_transfer_bytes_total"):
        assert f"\nperigee_{name} 0.0\n" in text
    hits = float(text.split("\nperigee_vision_cache_hits_total ")[1].split("\n")[0])
    assert hits >= 1
    assert "\nperigee_integrity_failures_total 0.0\n" in text


def test_the_worker_says_who_it_is(vision, checkpoint):
    info = vision.info()
    assert info.incarnation.startswith("vision-")
    assert info.model.hidden_size == 40
    assert len(info.model.fingerprint) == 32
    assert not info.HasField("layout")
    assert info.transport.transport
    assert info.metrics_port == vision.metrics_port


def test_a_video_is_answered_chunk_by_chunk_and_a_wrong_hash_or_file_is_refused(vision):
    video = film(num_frames=33)
    content_hash = hashlib.sha256(video).digest()
    chunks = vision.encode_video(video, content_hash)
    assert [chunk.content_hash for chunk in chunks] == [chunk_hash(content_hash, i) for i in range(2)]
    assert [(chunk.grid_t, chunk.num_tokens) for chunk in chunks] == [(4, 12), (3, 12)]
    for bad in (lambda: vision.encode_video(video, bytes(32)), lambda: vision.encode_video(video[:300])):
        assert code_of(bad) is grpc.StatusCode.INVALID_ARGUMENT
    assert vision.encode_video(video, content_hash) == chunks


def test_a_worker_whose_model_hangs_ends_in_time_although_its_thread_does_not(
    checkpoint, image_file, tmp_path
):
    log = tmp_path / "vision.log"
    command = "tests.vision.hanging_process", "7"
    worker = Vision.start(checkpoint, log, command=command, **SETTINGS)
    try:
        for seed in range(6):
            worker.encode(image_file(seed=seed))
        hanging = worker.encode_later(image_file(seed=6))
        assert worker.process.wait(scaled(15)) == 1
        assert "a step of the vision model has run for" in log.read_text()
        assert hanging.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    finally:
        worker.process.kill()
