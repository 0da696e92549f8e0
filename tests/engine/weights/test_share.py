"""Each rank of a tensor-parallel group reads its share, and no more."""

from __future__ import annotations

import json
import mmap

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.common.errors import ConfigError
from services.common.model_types import read_config
from services.engine.loading.memory_plan import plan_memory
from services.engine.loading.text import load_kernel_text_model, stream_text_share
from services.engine.loading.worker_shape import WorkerShape
from services.engine.model.architectures import parse_config
from services.engine.model.rank import Rank
from services.engine.model.tensor_group import NoGroup
from services.engine.weights.checkpoint import Checkpoint
from services.engine.weights.expected import StoredTensor, expected_tensors
from services.engine.weights.headers import read_headers, shard_names
from services.engine.weights.int4 import dequantise
from services.engine.weights.loader import TensorReader
from services.engine.weights.random_checkpoint import with_bf16, with_int4, write_random_checkpoint
from services.engine.weights.share import Share, row_shares_of, shares_of
from services.engine.weights.writer import write_shards
from tests.support.page_cache import cached_pages, drop_pages

TEXT_PREFIX = "language_model."
HEADS, MOE_WIDTH = 8, 256
LAYER = f"{TEXT_PREFIX}model.layers.1."
DOWN = f"{LAYER}mlp.experts.1.down_proj.weight"


@pytest.fixture(scope="module")
def small(nano_dir):
    """The embedded checkpoint's configuration with few layers and experts, which 8 ranks divide."""
    values = read_config(nano_dir / "config.json")
    changes = {
        "num_hidden_layers": 2,
        "n_routed_experts": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "moe_intermediate_size": MOE_WIDTH,
    }
    return values | {"text_config": values["text_config"] | changes}


def with_text(values, **changes):
    return values | {"text_config": values["text_config"] | changes}


def stored_tensors(directory):
    stored = {}
    for shard in shard_names(directory):
        stored |= load_file(directory / shard)
    return stored


@pytest.fixture(scope="module")
def checkpoints(small, tmp_path_factory):
    """Tensors of the same shapes, by how they are stored."""
    root = tmp_path_factory.mktemp("shares")
    write_random_checkpoint(root / "int4", with_int4(small), seed=1)
    write_random_checkpoint(root / "bf16", with_bf16(small), seed=2)
    (root / "f32").mkdir()
    (root / "f32" / "config.json").write_text(json.dumps(with_bf16(small)))
    floats = {name: torch.randn(tensor.shape) for name, tensor in stored_tensors(root / "bf16").items()}
    save_file(floats, root / "f32" / "model.safetensors")
    return {kind: Checkpoint.checked(root / kind) for kind in ("int4", "bf16", "f32")}


def read_all(checkpoint, rank, dtype=torch.bfloat16):
    with stream_text_share(checkpoint, rank, dtype) as weights:
        return dict(weights), weights.read_bytes


@pytest.mark.parametrize("kind", ["int4", "bf16", "f32"])
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_the_shares_of_all_ranks_together_are_the_whole_tensors(checkpoints, kind, count):
    checkpoint = checkpoints[kind]
    dtype = torch.float32 if kind == "f32" else torch.bfloat16
    ranks = [read_all(checkpoint, Rank(index, count), dtype)[0] for index in range(count)]
    whole = {
        name: tensor
        for name, tensor in stored_tensors(checkpoint.directory).items()
        if name.startswith(TEXT_PREFIX)
    }
    assert {frozenset(share) for share in ranks} == {frozenset(whole)}
    for name, tensor in whole.items():
        dim = checkpoint.tensors[name].split_dim
        parts = [share[name] for share in ranks]
        assert {part.dtype for part in parts} == {tensor.dtype}
        if dim is None:
            assert all(torch.equal(part, tensor) for part in parts)
        else:
            assert torch.equal(torch.cat(parts, dim), tensor)


@pytest.mark.parametrize("kind", ["int4", "bf16"])
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_each_rank_reads_as_many_bytes_as_the_memory_plan_says(checkpoints, kind, count):
    plan = plan_memory(checkpoints[kind].config, WorkerShape(Rank(0, count), 64, 1), 10**11)
    for index in range(count):
        tensors, read = read_all(checkpoints[kind], Rank(index, count))
        assert sum(tensor.nbytes for tensor in tensors.values()) == read == plan.weights


def test_a_rank_has_whole_heads_and_the_experts_inputs_and_outputs_that_fit_together(checkpoints):
    checkpoint, rank = checkpoints["bf16"], 3
    whole, (mine, _) = stored_tensors(checkpoint.directory), read_all(checkpoint, Rank(rank, HEADS))
    attention = f"{LAYER}self_attn."
    for name in ("q_b_proj.weight", "kv_b_proj.weight"):
        heads = whole[attention + name].unflatten(0, (HEADS, -1))
        assert torch.equal(mine[attention + name], heads[rank])
    heads = whole[f"{attention}o_proj.weight"].unflatten(1, (HEADS, -1))
    assert torch.equal(mine[f"{attention}o_proj.weight"], heads[:, rank])
    for mlp in (f"{TEXT_PREFIX}model.layers.0.mlp.", f"{LAYER}mlp.shared_experts.", f"{LAYER}mlp.experts.1."):
        width = whole[f"{mlp}up_proj.weight"].shape[0] // HEADS
        part = slice(rank * width, rank * width + width)
        assert torch.equal(mine[f"{mlp}gate_proj.weight"], whole[f"{mlp}gate_proj.weight"][part])
        assert torch.equal(mine[f"{mlp}up_proj.weight"], whole[f"{mlp}up_proj.weight"][part])
        assert torch.equal(mine[f"{mlp}down_proj.weight"], whole[f"{mlp}down_proj.weight"][:, part])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_an_int4_share_dequantises_to_the_share_of_the_dequantised_weight(checkpoints, dtype):
    checkpoint = checkpoints["int4"]
    whole = checkpoint.reader(dtype).read(DOWN)
    width = MOE_WIDTH // 4
    for index in range(4):
        reader = checkpoint.reader(dtype, rank=Rank(index, 4))
        part = whole[:, index * width : (index + 1) * width]
        assert torch.equal(reader.read(DOWN), part)
        packed, scale = reader.read(f"{DOWN}_packed"), reader.read(f"{DOWN}_scale")
        assert torch.equal(dequantise(packed, scale, torch.empty(part.shape, dtype=dtype)), part)


def test_a_share_holds_no_memory_beyond_its_own_values(checkpoints):
    for kind in ("int4", "bf16"):
        tensors, _ = read_all(checkpoints[kind], Rank(5, 8))
        assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors.values())


@pytest.mark.parametrize(
    ("changes", "count", "named"),
    [
        ({}, 3, r"q_b_proj\.weight: dimension 0 of \[768, 64\] is 8 indivisible parts of 96"),
        # As rows they could be divided, as heads they cannot.
        ({}, 16, r"q_b_proj\.weight: dimension 0 of \[768, 64\] is 8 indivisible parts of 96"),
        # As words they could be divided, as groups of 32 values they cannot.
        (
            {"moe_intermediate_size": 96},
            4,
            r"experts\.0\.down_proj\.weight_packed: dimension 1 of \[128, 12\] is 3 indivisible parts of 4",
        ),
        ({"vocab_size": 2305}, 2, r"embed_tokens\.weight: dimension 0 of \[2305, 128\] is 2305 indivis"),
    ],
)
def test_a_tensor_that_the_group_does_not_divide_is_named(small, changes, count, named):
    tensors = expected_tensors(parse_config(with_int4(with_text(small, **changes))))
    with pytest.raises(ConfigError, match=rf"over {count} ranks does not divide language_model\..*{named}"):
        shares_of(tensors, Rank(0, count))


def test_widths_of_plain_experts_need_no_groups(small):
    tensors = expected_tensors(parse_config(with_bf16(with_text(small, moe_intermediate_size=96))))
    assert shares_of(tensors, Rank(3, 4))[DOWN].shape == (128, 24)


def test_a_group_that_does_not_divide_the_model_is_refused_before_anything_is_read(small, tmp_path):
    write_random_checkpoint(tmp_path, with_int4(small), header_only=True)
    checkpoint = Checkpoint.checked(tmp_path)
    for shard in shard_names(tmp_path):
        (tmp_path / shard).unlink()
    with pytest.raises(ConfigError, match="does not divide"):
        stream_text_share(checkpoint, Rank(0, 16), torch.bfloat16)


@pytest.mark.parametrize(
    ("index", "count", "named"),
    [(0, 0, "at least 1 rank, not 0"), (4, 4, "ranks 0 to 3, not 4"), (-1, 4, "ranks 0 to 3, not -1")],
)
def test_a_rank_that_is_not_of_its_group_is_refused(index, count, named):
    with pytest.raises(ConfigError, match=named):
        Rank(index, count)


def test_the_parts_of_a_tensor_of_three_dimensions_fit_together():
    values = torch.arange(4 * 6 * 5)
    for dim, count in ((0, 2), (1, 3), (2, 5)):
        parts = [Share.part((4, 6, 5), dim, Rank(index, count)) for index in range(count)]
        taken = [
            values[part.first : part.first + part.span]
            .as_strided((part.runs, part.run), (part.pitch, 1), part.first)
            .reshape(part.shape)
            for part in parts
        ]
        assert torch.equal(torch.cat(taken, dim), values.view(4, 6, 5))


WIDE = {
    "rows": StoredTensor((64, 4096), "BF16", 0),
    "columns": StoredTensor((16, 32768), "BF16", 1),
}


@pytest.fixture
def wide(tmp_path):
    """A shard of two tensors whose rows are wider than a page."""
    write_shards(tmp_path, [WIDE], lambda name: torch.randn(WIDE[name].shape).bfloat16())
    return tmp_path


def share_reader(directory, rank):
    return TensorReader(directory, read_headers(directory), torch.bfloat16, shares=shares_of(WIDE, rank))


@pytest.mark.parametrize("name", ["rows", "columns"])
def test_only_the_pages_of_a_share_are_read_from_disk(wide, name):
    path, header = wide / shard_names(wide)[0], read_headers(wide)[name]
    reader, share = share_reader(wide, Rank(3, 8)), shares_of(WIDE, Rank(3, 8))[name]
    drop_pages(path)
    if cached_pages(path):
        pytest.skip("this file system keeps its files in memory")
    reader.read(name)
    starts = [header.start + 2 * (share.first + run * share.pitch) for run in range(share.runs)]
    pages = {
        page
        for start in starts
        for page in range(start // mmap.PAGESIZE, (start + 2 * share.run - 1) // mmap.PAGESIZE + 1)
    }
    cached = cached_pages(path)
    assert pages <= cached
    # A row's share may begin and end within a page, and the kernel may read a little further.
    assert len(cached) * mmap.PAGESIZE < WIDE[name].nbytes / 2


NARROW = {"columns": StoredTensor((512, 2048), "BF16", 1)}


@pytest.mark.parametrize(("exchanges", "touched"), [(False, 8), (True, 1)])
def test_of_a_matrix_whose_pages_have_columns_of_all_ranks_a_rank_that_exchanges_them_reads_its_part(
    tmp_path, exchanges, touched
):
    write_shards(tmp_path, [NARROW], lambda name: torch.randn(NARROW[name].shape).bfloat16())
    path, rank = tmp_path / shard_names(tmp_path)[0], Rank(3, 8)
    shares = row_shares_of(NARROW, rank) if exchanges else shares_of(NARROW, rank)
    reader = TensorReader(tmp_path, read_headers(tmp_path), torch.bfloat16, shares=shares)
    drop_pages(path)
    if cached_pages(path):
        pytest.skip("this file system keeps its files in memory")
    tensor = reader.read("columns")
    assert tensor.nbytes == NARROW["columns"].nbytes // 8
    mine = tensor.nbytes // mmap.PAGESIZE
    assert (
        mine * touched <= len(cached_pages(path)) <= mine * touched + 33
    )  # the kernel reads a little further


def exchanged(parts, rank):
    """What a rank gets of all ranks' rows."""
    return torch.cat([rows.unflatten(1, (rank.count, -1))[:, rank.index] for rows in parts])


@pytest.mark.parametrize("kind", ["int4", "bf16"])
@pytest.mark.parametrize("count", [2, 8])
def test_the_columns_of_all_ranks_rows_are_the_shares(checkpoints, kind, count):
    checkpoint, ranks = checkpoints[kind], [Rank(index, count) for index in range(count)]
    names = {name for name in row_shares_of(checkpoint.tensors, ranks[0]) if checkpoint.tensors[name].is_text}
    assert {name for name, tensor in checkpoint.tensors.items() if tensor.split_dim == 1} == names
    rows = []
    for rank in ranks:
        with stream_text_share(checkpoint, rank, torch.bfloat16, exchanges=True) as weights:
            rows.append(dict(weights))
    for rank in ranks:
        plain, read = read_all(checkpoint, rank)
        for name, share in plain.items():
            expected = (
                exchanged([each[name] for each in rows], rank) if name in names else rows[rank.index][name]
            )
            assert torch.equal(share, expected)
    assert sum(tensor.nbytes for tensor in rows[-1].values()) == read


def test_whole_experts_and_whole_attention_are_not_exchanged(checkpoints):
    rank = Rank(0, 2, whole_experts=True, whole_attention=True)
    names = row_shares_of(checkpoints["int4"].tensors, rank)
    assert names
    assert not any(".experts." in name or ".self_attn." in name for name in names)


def test_nothing_behind_a_share_is_mapped(wide):
    path, header = wide / shard_names(wide)[0], read_headers(wide)["rows"]
    reader = share_reader(wide, Rank(0, 8))
    before = reader.read("rows")
    with path.open("r+b") as file:
        file.truncate(header.start + before.nbytes)
    assert torch.equal(reader.read("rows"), before)


def test_on_gpus_a_rank_reads_rows_of_what_is_split_by_columns_and_gets_its_columns_from_the_others(nano_dir):
    exchanged = []

    class Two(NoGroup):
        """Rank 0 of two, the other of which has zeros."""

        rank = Rank(0, 2, whole_experts=True)

        def columns(self, rows):
            exchanged.append(tuple(rows.shape))
            return rows.new_zeros(2 * rows.shape[0], rows.shape[1] // 2)

    load_kernel_text_model(nano_dir, False, torch.float32, "cpu", Two())
    tensors = Checkpoint.checked(nano_dir).tensors.items()
    split = [tensor.shape for name, tensor in tensors if tensor.split_dim == 1 and Two.rank.splits(name)]
    assert len(split) > 5
    assert sorted(exchanged) == sorted((rows // 2, columns) for rows, columns in split)
