"""What a page keeps of the values put into it, and how many bytes that takes."""

from __future__ import annotations

import pytest
import torch

from services.common.errors import InternalError
from services.engine.batch import PAGE_TOKENS
from services.engine.kv_cache.kv_format import BFLOAT16, FLOAT32, float_format
from services.engine.kv_cache.kv_pages import allocate_kv_pages, kv_layout, kv_region
from tests.engine.int8_rows import INT8_ROWS

WIDTH = 160
LAYERS = 3
FORMATS = pytest.mark.parametrize(
    "kv_format", [FLOAT32, BFLOAT16, INT8_ROWS], ids=lambda kv_format: kv_format.name
)
ROWS = torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(5)) * 3


def kept(kv_format, rows: torch.Tensor) -> torch.Tensor:
    return kv_format.load(kv_format.store(rows)).float()


def test_float32_rows_come_back_as_they_were():
    assert torch.equal(kept(FLOAT32, ROWS), ROWS)


def test_bfloat16_rows_come_back_within_the_256th_of_each_value():
    assert ((kept(BFLOAT16, ROWS) - ROWS).abs() <= ROWS.abs() / 256).all()
    assert not torch.equal(kept(BFLOAT16, ROWS), ROWS)


def test_int8_rows_come_back_within_half_a_step_of_their_largest_value():
    bound = ROWS.abs().amax(dim=-1, keepdim=True) / 127 * 0.5001
    assert ((kept(INT8_ROWS, ROWS) - ROWS).abs() <= bound).all()
    assert not torch.equal(kept(INT8_ROWS, ROWS), ROWS)


@FORMATS
def test_a_row_is_stored_alike_alone_and_in_company(kv_format):
    alone = torch.cat([kv_format.store(row[None]) for row in ROWS])
    assert torch.equal(alone, kv_format.store(ROWS))


@FORMATS
def test_pages_have_the_bytes_that_the_format_counts(kv_format):
    pages = allocate_kv_pages(5, LAYERS, WIDTH, kv_format)
    assert pages.dtype == kv_format.dtype
    assert not pages.any()
    token_bytes = kv_format.bytes_per_token(LAYERS, WIDTH)
    assert pages.nbytes == 5 * PAGE_TOKENS * token_bytes
    assert kv_region(pages).total_bytes == pages.nbytes


def test_bytes_of_a_token_in_the_published_shape():
    assert BFLOAT16.bytes_per_token(61, 576) == 70_272
    assert FLOAT32.bytes_per_token(61, 576) == 140_544


@pytest.mark.parametrize("kv_format", [FLOAT32, BFLOAT16])
def test_float_formats_copy_nothing_where_dtypes_agree(kv_format):
    rows = ROWS.to(kv_format.dtype)
    assert kv_format.store(rows) is rows
    assert kv_format.load(rows) is rows


def test_a_layout_names_its_format():
    pages = allocate_kv_pages(1, LAYERS, WIDTH, INT8_ROWS)
    assert kv_layout(pages, INT8_ROWS).format == "int8-rows"
    assert kv_layout(pages.float()).format == "float32"


def test_the_format_of_pages_that_are_no_floats_is_not_guessed():
    assert float_format(torch.bfloat16) is BFLOAT16
    with pytest.raises(InternalError, match="int8"):
        float_format(torch.int8)
