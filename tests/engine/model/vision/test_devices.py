"""The vision model on another device than the host's, and several media at once."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from services.common.errors import Cancelled
from services.engine.leases.embedding_reader import ROWS_DTYPE
from services.vision.embedding_pool import allocate_embedding_rows, write_embedding
from tests.engine.model.vision.test_model import TEXT_WIDTH, random_model, tiny_config

GRIDS = [(1, 4, 6), (3, 2, 4), (1, 8, 8)]
"""An image, a chunk of a video, and an image that needs no resampling of the position table."""


class Only(TorchDispatchMode):
    """Fails for an operation that makes a tensor on another device."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                assert leaf.device.type == self._device, f"{func} makes a tensor on {leaf.device}"
        return result


@pytest.fixture
def model():
    return random_model(tiny_config(48, 4, 2, (8, 8)), seed=3)


def media():
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.rand(frames * rows * columns, 3, 14, 14, generator=generator) * 2 - 1, (frames, rows, columns))
        for frames, rows, columns in GRIDS
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_that_is_computed_from_pixels_of_the_host_is_on_the_models_device(model, dtype):
    model = model.to("meta", dtype)
    rows = allocate_embedding_rows(4, TEXT_WIDTH, "meta")
    given = media()  # on the host, as the preprocessing threads leave them
    with Only("meta") as mode:
        for pages, values in zip([[0], [2], [3]], model.encode_all(given), strict=True):
            assert (values.dtype, values.shape[1]) == (dtype, TEXT_WIDTH)
            write_embedding(rows, pages, values)
    assert mode.operations > 100
    assert (rows.device.type, rows.dtype) == ("meta", ROWS_DTYPE)


def test_three_media_at_once_have_the_embeddings_that_each_has_alone(model):
    together = model.encode_all(media())
    for (pixels, grid), found in zip(media(), together, strict=True):
        alone = model.encode(pixels, grid)
        assert found.shape == alone.shape
        # Not to the bit: a product of more rows may add up in another order.
        assert (found - alone).abs().max() <= 1e-5 * alone.std()


def test_a_medium_attends_to_nothing_of_the_others(model):
    first, second, third = media()
    loud = second[0] * 100, second[1]
    for other in (second, loud):
        found = model.encode_all([first, other, third])
        assert (found[0] - model.encode(*first)).abs().max() <= 1e-5 * found[0].std()
        assert (found[2] - model.encode(*third)).abs().max() <= 1e-5 * found[2].std()


def test_the_embedding_of_weights_in_bfloat16_lies_in_the_dtype_that_readers_expect(model):
    pixels, grid = media()[0]
    values = model.to(torch.bfloat16).encode(pixels, grid)
    rows = allocate_embedding_rows(3, TEXT_WIDTH)
    write_embedding(rows, [2], values)
    assert torch.equal(rows[2, : len(values)], values.float())


def test_a_batch_can_be_stopped_between_two_layers(model):
    calls = []

    def before_layer():
        calls.append(None)
        if len(calls) == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        model.encode_all(media(), before_layer)
    assert len(calls) == 2
