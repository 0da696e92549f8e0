"""The gateway names a prompt's pages as the workers that cache them do."""

import random

from perigee.v1 import vision_pb2
from services.common.page_hash import short_name
from services.engine.kv_cache.page_manager import PageManager
from services.gateway.pipeline.prompt.prompt_pages import prompt_pages
from tests.support.decode_bench import Bench, medium
from tests.support.fake_runner import FakeRunner, fake_pages


def worker_names(token_ids, media=(), salt=""):
    """What a decode worker's journal says once the prompt's pages are whole."""
    manager = PageManager(8, FakeRunner(fake_pages(8)))
    request = Bench(4).request(token_ids, media=media)
    request.cache_salt = salt
    hashes = manager.hashes(request, list(token_ids), len(token_ids) - 1, [])
    return tuple(map(short_name, hashes))


def tokens(length):
    draw = random.Random(length)
    return tuple(draw.randrange(1000) for _ in range(length))


async def test_a_text_prompt_has_the_workers_names():
    for length in (1, 64, 65, 129, 200):
        pages = await prompt_pages(tokens(length), (), "")
        assert pages.names == worker_names(tokens(length))
        assert pages.num_tokens == length - 1


async def test_the_salt_takes_part():
    pages = await prompt_pages(tokens(200), (), "salt")
    assert pages.names == worker_names(tokens(200), salt="salt")
    assert pages.names != worker_names(tokens(200))


async def test_images_take_part_with_their_hash_and_place_also_up_to_the_last_token():
    for offset in (0, 50, 170):
        image = vision_pb2.MediaRef(content_hash=bytes([1]) * 32, token_offset=offset, num_tokens=30)
        pages = await prompt_pages(tokens(200), (image,), "")
        assert pages.names == worker_names(tokens(200), (medium(offset, 30),))


async def test_a_long_prompt_has_the_same_names_as_a_short_one_begins_with():
    long, short = tokens(20_000), tokens(20_000)[:6400]
    names = (await prompt_pages(long, (), "")).names
    assert names[:99] == (await prompt_pages(short, (), "")).names
