"""Latent attention for prefill."""

from __future__ import annotations

import pytest
import torch

from kernels import mla_prefill as kernel
from kernels.page_copy import gather_pages
from kernels.reference import mla_decode as decode_reference
from kernels.reference import mla_prefill as reference

NOPE, ROPE, VALUE, LATENT = 128, 64, 128, 512
SCALE = 0.1446796258


def make_inputs(sequences, heads=2, dtype=torch.float32, seed=0):
    """Query, key, rope key, value and starts of (new tokens, context) sequences; key rows that belong to
    none hold NaN.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = [count for count, _ in sequences]
    query = torch.randn(sum(counts), heads, NOPE + ROPE, generator=generator).to(dtype)
    padded = [-(-length // 64) * 64 for _, length in sequences]
    expanded = torch.full((sum(padded), heads, NOPE + VALUE), float("nan"), dtype=dtype)
    key_rope = torch.full((sum(padded), ROPE), float("nan"), dtype=dtype)
    key_starts = [sum(padded[:index]) for index in range(len(sequences))]
    for first, (_, length) in zip(key_starts, sequences, strict=True):
        rows = slice(first, first + length)
        expanded[rows] = torch.randn(length, heads, NOPE + VALUE, generator=generator).to(dtype)
        key_rope[rows] = torch.randn(length, ROPE, generator=generator).to(dtype)
    query_starts = [sum(counts[:index]) for index in range(len(counts) + 1)]
    key, value = expanded[..., :NOPE], expanded[..., NOPE:]
    return query, key, key_rope, value, query_starts, key_starts, [length for _, length in sequences]


def attend(query, key, key_rope, value, *starts):
    counts = [end - start for start, end in zip(starts[0], starts[0][1:], strict=False)]
    device_starts = [torch.tensor(values, dtype=torch.int32) for values in starts]
    return kernel.mla_prefill(query, key, key_rope, value, *device_starts, SCALE, max(counts))


def attend_pages(query, pages, table, up, length):
    """The whole way: gather a layer's pages, expand them, attend."""
    latents = gather_pages(pages, table, 1, 2).flatten(0, 2)
    expanded = torch.einsum("sl,hol->sho", latents[:, :LATENT], up)
    key, value = expanded[..., :NOPE], expanded[..., NOPE:]
    return attend(query, key, latents[:, LATENT:], value, [0, len(query)], [0], [length])


def expected(inputs):
    query, *rest = inputs
    return reference.mla_prefill(query.double(), *rest, SCALE)


@pytest.mark.parametrize(
    "sequences",
    [
        [(70, 70)],  # a prompt from its beginning
        [(5, 200)],  # a chunk behind a cached context
        [(130, 150), (1, 64), (3, 3)],  # ragged, over several tiles
    ],
)
def test_every_token_sees_itself_and_what_is_before_it(interpreter, sequences):
    inputs = make_inputs(sequences)
    out = interpreter(attend, *inputs)
    torch.testing.assert_close(out.double(), expected(inputs), rtol=1e-5, atol=1e-5)


def test_bfloat16_matches_the_reference(interpreter):
    inputs = make_inputs([(10, 100)], dtype=torch.bfloat16)
    out = interpreter(attend, *inputs)
    torch.testing.assert_close(out.double(), expected(inputs), rtol=2**-5, atol=1e-2)


def test_a_tokens_bits_do_not_depend_on_the_batch_nor_on_the_chunk(interpreter):
    inputs = query, key, key_rope, value, *_ = make_inputs([(140, 140), (7, 9)])
    together = interpreter(attend, *inputs)
    # Chunks that begin with a tile: numpy's products round by a row's place, a GPU's do not.
    begin = kernel.BLOCK_QUERIES
    chunk = query[begin:140], key, key_rope, value, [0, 140 - begin], [0], [140]
    assert torch.equal(together[begin:140], interpreter(attend, *chunk))
    head = query[:begin], key, key_rope, value, [0, begin], [0], [begin]
    assert torch.equal(together[:begin], interpreter(attend, *head))


def test_over_gathered_pages_it_agrees_with_the_absorbed_form(interpreter):
    generator = torch.Generator().manual_seed(3)
    heads, length = 2, 100
    pages = torch.randn(4, 3, 64, LATENT + ROPE, generator=generator)
    table = torch.tensor([3, 1], dtype=torch.int32)
    up = torch.randn(heads, NOPE + VALUE, LATENT, generator=generator) * LATENT**-0.5
    query = torch.randn(1, heads, NOPE + ROPE, generator=generator)
    out = interpreter(attend_pages, query, pages, table, up, length)
    absorbed = torch.einsum("bhn,hnl->bhl", query[..., :NOPE], up[:, :NOPE])
    latent_query = torch.cat([absorbed, query[..., NOPE:]], dim=-1)
    lengths = torch.tensor([length])
    mixed = decode_reference.mla_decode(latent_query, pages[:, 1], table[None], lengths, SCALE, LATENT)
    wanted = torch.einsum("bhl,hvl->bhv", mixed, up[:, NOPE:])
    torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-4)


def test_keys_of_other_heads_are_an_error():
    query, key, key_rope, value, *starts = make_inputs([(1, 1)])
    with pytest.raises(ValueError, match="do not fit each other"):
        attend(query, key[:, :1], key_rope, value, *starts)
