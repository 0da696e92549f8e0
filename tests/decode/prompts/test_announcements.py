"""A prefill worker decides neither where bytes land nor which memory is read beyond what it has offered."""

from __future__ import annotations

import itertools
import random

import pytest

from perigee.v1 import prefill_pb2
from services.common.errors import TransferFailed
from services.decode.prompts.announcements import Announcements
from services.decode.prompts.fetch import FetchOrder
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.region import Region, RegionKind

LAYERS = 3
OFFERED = 5
ORDER = FetchOrder("prefill:1", "request", (1,) * 300, (), "", cached_pages=2, pages=(7, 9, 8))


def offer(*regions: Region) -> Offer:
    return Offer("prefill-a", b"", regions, 0, "prefill-a")


@pytest.fixture
def announcements():
    region = Region(RegionKind.KV, 4096, 64, OFFERED * LAYERS)
    return Announcements(ORDER, LAYERS, offer(region), "prefill worker prefill:1")


def ready(first_page: int, page_count: int, first_layer: int = 0, end_layer: int = LAYERS):
    return prefill_pb2.PagesReady(
        first_page=first_page, page_count=page_count, first_layer=first_layer, end_layer=end_layer
    )


def test_each_layer_page_lands_in_the_page_of_its_place_in_the_prompt(announcements):
    announcements.grant([4, 0, 2])
    blocks = [ready(page, 1, layer, layer + 1) for page in (2, 3, 4) for layer in range(LAYERS)]
    random.Random(1).shuffle(blocks)
    landed = {}
    for block in blocks:
        assert not announcements.is_complete
        announced = announcements.take(block)
        landed[announced.local, announced.first_layer] = announced.remote
    assert announcements.is_complete
    places = zip(((7,), (9,), (8,)), ((4,), (0,), (2,)), strict=True)
    expected = itertools.product(places, range(LAYERS))
    assert landed == {(local, layer): remote for (local, remote), layer in expected}


@pytest.mark.parametrize("pages", [(0, 1, OFFERED), (2**32 - 1, 0, 1), (0, 1), (0, 1, 2, 3), ()])
def test_a_grant_of_pages_outside_the_offer_or_of_another_number_of_pages_is_refused(announcements, pages):
    with pytest.raises(TransferFailed, match="prefill worker prefill:1 granted"):
        announcements.grant(pages)


def test_a_grant_of_kv_pages_by_a_worker_that_offers_none_is_refused():
    announcements = Announcements(ORDER, LAYERS, offer(), "prefill worker prefill:1")
    with pytest.raises(TransferFailed, match="its offer has 0 pages"):
        announcements.grant([0, 1, 2])


def test_a_second_grant_is_refused(announcements):
    announcements.grant([0, 1, 2])
    with pytest.raises(TransferFailed, match="twice"):
        announcements.grant([2, 1, 0])


@pytest.mark.parametrize(
    "block",
    [
        (1, 1),  # cached by the reader
        (5, 1),
        (4, 2),
        (2, 0),
        (2, 2**32 - 1),
        (2**32 - 1, 1),
        (2, 1, 0, LAYERS + 1),
        (2, 1, 1, 1),
        (2, 1, 2, 1),
        (2, 1, LAYERS, LAYERS + 1),
        (2, 1, 0, 2**32 - 1),
    ],
)
def test_an_announcement_outside_the_prompt_or_the_model_is_refused(announcements, block):
    announcements.grant([0, 1, 2])
    with pytest.raises(TransferFailed, match="not asked for"):
        announcements.take(ready(*block))


def test_an_announcement_before_the_grant_is_refused(announcements):
    with pytest.raises(TransferFailed, match="not asked for"):
        announcements.take(ready(2, 1))


def test_a_page_announced_twice_does_not_pass_for_another_one(announcements):
    announcements.grant([0, 1, 2])
    announcements.take(ready(2, 2))
    with pytest.raises(TransferFailed, match="twice"):
        announcements.take(ready(3, 2, 1, 2))
    assert not announcements.is_complete
