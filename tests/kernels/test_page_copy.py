"""Copies between pages and a buffer."""

from __future__ import annotations

import pytest
import torch

from kernels import page_copy
from kernels.reference import page_copy as reference

WIDTH = 20


def make_pages(count=5, layers=3):
    return torch.randn(count, layers, 64, WIDTH, generator=torch.Generator().manual_seed(0))


def scattered(layer_pages, pages, page_ids, first_layer):
    page_copy.scatter_pages(layer_pages, pages, page_ids, first_layer)
    return pages


def moved_far(block, page, layers):
    """Puts a block into the last layer of `page` and gets it out again; hardly a page is touched."""
    pool = torch.empty(page + 1, layers, 64, 576, dtype=torch.bfloat16)
    page_ids = torch.tensor([page])
    page_copy.scatter_pages(block, pool, page_ids, layers - 1)
    return pool[page, -1].clone(), page_copy.gather_pages(pool, page_ids, layers - 1, layers), pool.numel()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize(("first", "end"), [(0, 3), (1, 2)])
def test_pages_are_gathered_in_the_order_of_their_ids(interpreter, first, end, dtype):
    pages, page_ids = make_pages(), torch.tensor([4, 0, 3], dtype=dtype)
    out = interpreter(page_copy.gather_pages, pages, page_ids, first, end)
    assert torch.equal(out, reference.gather_pages(pages, page_ids, first, end))


def test_what_was_gathered_is_scattered_into_other_pages_and_no_other_layer(interpreter):
    pages, page_ids = make_pages(), torch.tensor([4, 1])
    layer_pages = torch.randn(2, 2, 64, WIDTH, generator=torch.Generator().manual_seed(1))
    out = interpreter(scattered, layer_pages, pages, page_ids, 1)
    reference.scatter_pages(layer_pages, pages, page_ids, 1)
    assert torch.equal(out, pages)


def test_offsets_beyond_page_1000_of_61_layers_are_64_bit(interpreter):
    block = torch.randn(1, 1, 64, 576, generator=torch.Generator().manual_seed(0)).bfloat16()
    stored, gathered, elements = interpreter(moved_far, block, 1001, 61)
    assert elements > 2**31
    assert torch.equal(stored, block[0, 0])
    assert torch.equal(gathered, block)


def test_no_pages_are_nothing_to_copy(interpreter):
    nothing = torch.empty(0, dtype=torch.int64)
    assert interpreter(page_copy.gather_pages, make_pages(), nothing, 0, 3).shape == (0, 3, 64, WIDTH)


def test_layers_that_are_not_there_are_an_error():
    with pytest.raises(ValueError, match="layers 2 to 4 are not within the 3"):
        page_copy.gather_pages(make_pages(), torch.tensor([0]), 2, 4)
    with pytest.raises(ValueError, match=r"layer pages \(1, 2, 64, 20\) do not fit 1 pages"):
        page_copy.scatter_pages(torch.ones(1, 2, 64, WIDTH), make_pages(), torch.tensor([0]), 2)
