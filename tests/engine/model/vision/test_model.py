"""The vision tower and projector against transformers' port, on random weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import Kimi_K25Config
from transformers.models.kimi_k25.modeling_kimi_k25 import (
    Kimi_K25MultimodalProjection,
    Kimi_K25VisionModel,
)

from services.common.errors import Cancelled
from services.engine.model.config.vision_config import VisionModelConfig
from services.engine.model.vision.model import VisionModel

TEXT_WIDTH = 40


def tiny_config(width: int, heads: int, layers: int, table: tuple[int, int]) -> VisionModelConfig:
    return VisionModelConfig(
        patch_size=14,
        pos_emb_height=table[0],
        pos_emb_width=table[1],
        pos_emb_time=4,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        hidden_size=width,
        intermediate_size=width * 3 + 2,
        merge_kernel_size=(2, 2),
        text_hidden_size=TEXT_WIDTH,
        projector_ln_eps=1e-5,
    )


def random_model(config: VisionModelConfig, seed: int) -> VisionModel:
    torch.manual_seed(seed)
    model = VisionModel(config)
    for name, parameter in model.named_parameters():
        spread = 0.5 if "pos_emb" in name else 0.15
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        torch.nn.init.normal_(parameter, centre, spread)
    return model.eval()


def half_split(weight: Tensor, heads: int) -> Tensor:
    """Rows of a q or k projection from adjacent pairs to transformers' half-split order."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def reference_of(model: VisionModel) -> tuple[Kimi_K25VisionModel, Kimi_K25MultimodalProjection]:
    ours = model.config
    config = Kimi_K25Config(
        vision_config={
            "patch_size": ours.patch_size,
            "pos_emb_height": ours.pos_emb_height,
            "pos_emb_width": ours.pos_emb_width,
            "pos_emb_time": ours.pos_emb_time,
            "num_attention_heads": ours.num_attention_heads,
            "num_hidden_layers": ours.num_hidden_layers,
            "hidden_size": ours.hidden_size,
            "intermediate_size": ours.intermediate_size,
        },
        text_config={"model_type": "deepseek_v3", "hidden_size": TEXT_WIDTH},
        projection_hidden_size=ours.hidden_size,
        projection_layer_norm_eps=ours.projector_ln_eps,
    )
    tower = Kimi_K25VisionModel._from_config(config.vision_config, attn_implementation="eager").eval()
    projector = Kimi_K25MultimodalProjection(config).eval()
    published = model.state_dict()
    tower.load_state_dict(tower_names(published, ours.num_attention_heads), strict=True)
    projector.load_state_dict(
        {
            name.removeprefix("mm_projector.")
            .replace("proj.0", "in_proj")
            .replace("proj.2", "out_proj"): value
            for name, value in published.items()
            if name.startswith("mm_projector.")
        },
        strict=True,
    )
    return tower, projector


def tower_names(published: dict[str, Tensor], heads: int) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, value in published.items():
        if not name.startswith("vision_tower."):
            continue
        name = name.removeprefix("vision_tower.").replace("encoder.blocks", "layers").replace("encoder.", "")
        name = name.replace("pos_emb.weight", "pos_emb.position_embeddings")
        name = name.replace("norm1", "norm2").replace("norm0", "norm1")
        name = name.replace("fc1", "fc2").replace("fc0", "fc1").replace(".wo.", ".attn.proj.")
        if ".wqkv." not in name:
            renamed[name] = value
            continue
        query, key, value_rows = value.chunk(3)
        renamed[name.replace("wqkv", "attn.q_proj")] = half_split(query, heads)
        renamed[name.replace("wqkv", "attn.k_proj")] = half_split(key, heads)
        renamed[name.replace("wqkv", "attn.v_proj")] = value_rows
    return renamed


@pytest.mark.parametrize(
    ("grid", "table"),
    [
        ((1, 8, 8), (8, 8)),
        ((1, 6, 14), (8, 8)),
        ((1, 22, 4), (8, 8)),
        ((1, 2, 2), (16, 16)),
        ((1, 2, 34), (16, 16)),
        ((2, 4, 6), (8, 8)),
        ((4, 8, 8), (8, 8)),
        ((3, 10, 2), (16, 16)),
    ],
)
@pytest.mark.parametrize(("width", "heads"), [(96, 6), (48, 4)])
def test_embeddings_equal_those_of_transformers(grid, table, width, heads, fidelity):
    model = random_model(tiny_config(width, heads, 3, table), seed=sum(grid) + width)
    tower, projector = reference_of(model)
    pixels = torch.rand(grid[0] * grid[1] * grid[2], 3, 14, 14) * 2 - 1
    with torch.no_grad():
        expected = projector(tower(pixels, torch.tensor([grid])).pooler_output).squeeze(1)
    ours = model.encode(pixels, grid)
    assert ours.shape == (grid[1] * grid[2] // 4, TEXT_WIDTH)
    assert expected.std() > 0.1
    error = float((ours - expected).abs().max() / expected.std())
    assert error <= 1e-4
    fidelity.near("Vision tower and projector", "embeddings of single media, f32", "transformers", error)


# transformers takes media of one number of frames at a time.
@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_media_of_many_shapes_encoded_at_once_by_transformers_are_the_same_one_by_one(frames, fidelity):
    grids = [(frames, *sides) for sides in ((6, 10), (4, 30), (30, 2), (2, 2), (8, 8))]
    model = random_model(tiny_config(96, 6, 3, (8, 8)), seed=3)
    tower, projector = reference_of(model)
    pixels = [torch.rand(frames * rows * columns, 3, 14, 14) * 2 - 1 for frames, rows, columns in grids]
    with torch.no_grad():
        expected = projector(tower(torch.cat(pixels), torch.tensor(grids)).pooler_output).squeeze(1)
    ours = torch.cat([model.encode(*medium) for medium in zip(pixels, grids, strict=True)])
    assert ours.shape == expected.shape
    error = float((ours - expected).abs().max() / expected.std())
    assert error <= 1e-4
    what = "embeddings of media of many shapes, one to four frames, f32"
    fidelity.near("Vision tower and projector", what, "transformers", error, len(grids))


def test_frames_are_told_apart_by_their_order():
    model = random_model(tiny_config(96, 6, 2, (8, 8)), seed=7)
    pixels = torch.rand(3, 24, 3, 14, 14)
    forwards = model.encode(pixels.flatten(0, 1), (3, 4, 6))
    backwards = model.encode(pixels.flip(0).flatten(0, 1), (3, 4, 6))
    assert (forwards - backwards).abs().max() > 1e-2 * forwards.std()


def test_the_same_medium_gives_the_same_bits_whatever_was_encoded_before():
    model = random_model(tiny_config(96, 6, 2, (8, 8)), seed=5)
    pixels = torch.rand(48, 3, 14, 14)
    first = model.encode(pixels, (1, 6, 8))
    model.encode(torch.rand(200, 3, 14, 14), (1, 10, 20))
    assert torch.equal(first, model.encode(pixels, (1, 6, 8)))


def test_the_parameters_bear_the_published_names():
    names = set(VisionModel(tiny_config(48, 4, 1, (8, 8))).state_dict())
    assert names == {
        "vision_tower.patch_embed.proj.weight",
        "vision_tower.patch_embed.proj.bias",
        "vision_tower.patch_embed.pos_emb.weight",
        *(
            f"vision_tower.encoder.blocks.0.{part}.{kind}"
            for part in ("norm0", "norm1", "wqkv", "wo", "mlp.fc0", "mlp.fc1")
            for kind in ("weight", "bias")
        ),
        "vision_tower.encoder.final_layernorm.weight",
        "vision_tower.encoder.final_layernorm.bias",
        *(
            f"mm_projector.{part}.{kind}"
            for part in ("pre_norm", "proj.0", "proj.2")
            for kind in ("weight", "bias")
        ),
    }


def test_a_run_ends_at_the_next_block_when_its_caller_says_so():
    model = random_model(tiny_config(48, 4, 3, (8, 8)), seed=2)
    blocks = []

    def twice() -> None:
        blocks.append(len(blocks))
        if len(blocks) == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        model.encode(torch.zeros(16, 3, 14, 14), (1, 4, 4), twice)
    assert blocks == [0, 1]


@pytest.mark.parametrize(
    ("patches", "grid"), [(7, (1, 2, 4)), (20, (5, 2, 2)), (6, (1, 2, 3)), (2 * 514, (1, 2, 514))]
)
def test_a_grid_the_model_cannot_take_is_refused(patches, grid):
    model = random_model(tiny_config(48, 4, 1, (8, 8)), seed=1)
    with pytest.raises(ValueError, match=r"patches|frames"):
        model.encode(torch.zeros(patches, 3, 14, 14), grid)
