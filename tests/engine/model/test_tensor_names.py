"""The names a checkpoint must hold."""

from __future__ import annotations

from services.engine.model.architectures import load_config
from services.engine.model.tensor_names import text_tensors, vision_tensors
from services.engine.weights.headers import read_headers


def test_the_published_model_has_the_published_names_and_shapes(shared_dir):
    config = load_config(shared_dir / "data" / "kimi-k2.5")
    text, vision = text_tensors(config.text), vision_tensors(config.vision)
    # As published, but for the experts: three plain tensors each here, nine packed ones there.
    assert len(text) == 3 + 61 * 9 + 3 + 60 * (384 * 3 + 5)
    assert len(vision) == 3 + 27 * 12 + 2 + 6
    layer = "model.layers.60."
    assert text[f"{layer}self_attn.kv_b_proj.weight"] == (16384, 512)
    assert text[f"{layer}self_attn.q_b_proj.weight"] == (12288, 1536)
    assert text[f"{layer}self_attn.kv_a_proj_with_mqa.weight"] == (576, 7168)
    assert text[f"{layer}mlp.experts.383.down_proj.weight"] == (7168, 2048)
    assert text[f"{layer}mlp.gate.e_score_correction_bias"] == (384,)
    assert text["model.layers.0.mlp.up_proj.weight"] == (18432, 7168)
    assert text["lm_head.weight"] == (163840, 7168)
    assert vision["vision_tower.patch_embed.pos_emb.weight"] == (64, 64, 1152)
    assert vision["vision_tower.encoder.blocks.26.wqkv.weight"] == (3456, 1152)
    assert vision["mm_projector.proj.0.weight"] == (4608, 4608)
    assert vision["mm_projector.proj.2.bias"] == (7168,)


def test_the_embedded_checkpoint_holds_exactly_its_names(nano_dir):
    config = load_config(nano_dir)
    text = {f"language_model.{name}": shape for name, shape in text_tensors(config.text).items()}
    expected = text | vision_tensors(config.vision)
    assert {name: header.shape for name, header in read_headers(nano_dir).items()} == expected
