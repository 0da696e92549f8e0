"""Reading config.json."""

from __future__ import annotations

import copy

import pytest

from services.common.errors import CheckpointError
from services.engine.model.architectures import load_config, parse_config
from services.engine.model.config.yarn import YarnScaling

SMALL = {
    "model_type": "kimi_k25",
    "media_placeholder_token_id": 7,
    "text_config": {
        "model_type": "kimi_k2",
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "first_k_dense_replace": 1,
        "intermediate_size": 16,
        "moe_intermediate_size": 4,
        "num_attention_heads": 2,
        "q_lora_rank": 4,
        "kv_lora_rank": 4,
        "qk_nope_head_dim": 4,
        "qk_rope_head_dim": 2,
        "v_head_dim": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "routed_scaling_factor": 2.0,
        "rms_norm_eps": 1e-5,
        "n_group": 1,
        "topk_group": 1,
        "rope_theta": 50000.0,
        "max_position_embeddings": 128,
        "vocab_size": 10,
    },
}
YARN = {
    "factor": 64.0,
    "original_max_position_embeddings": 4096,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}


def with_text(**changes):
    values = copy.deepcopy(SMALL)
    values["text_config"] |= changes
    return values


def with_vision(**vision):
    return copy.deepcopy(SMALL) | {"vision_config": vision}


def test_the_published_configuration_is_read_whole(shared_dir):
    config = load_config(shared_dir / "data" / "kimi-k2.5")
    text, vision = config.text, config.vision
    assert (text.hidden_size, text.num_hidden_layers, text.n_routed_experts) == (7168, 61, 384)
    assert text.rope_scaling == YarnScaling(64.0, 4096, 32.0, 1.0, 1.0, 1.0)
    assert (text.rope_theta, text.rms_norm_eps, text.kv_width, text.qk_head_dim) == (50000.0, 1e-5, 576, 192)
    assert (vision.hidden_size, vision.num_attention_heads, vision.num_hidden_layers) == (1152, 16, 27)
    assert (vision.pos_emb_height, vision.pos_emb_width, vision.pos_emb_time) == (64, 64, 4)
    assert config.media_placeholder_token_id == 163605
    assert config.quantization == "compressed-tensors"


def test_the_embedded_checkpoint_is_read(nano_dir):
    config = load_config(nano_dir)
    assert config.quantization is None
    assert config.vision.text_hidden_size == config.text.hidden_size == 128


@pytest.mark.parametrize("text_type", ["kimi_k2", "deepseek_v3"])
def test_both_spellings_of_the_text_models_type_are_taken(text_type):
    assert parse_config(with_text(model_type=text_type)).text.hidden_size == 8


def test_both_spellings_of_the_rope_dictionary_mean_the_same():
    old = with_text(rope_scaling=YARN | {"type": "yarn"})
    new = with_text(rope_parameters=YARN | {"rope_type": "yarn", "rope_theta": 50000.0})
    del new["text_config"]["rope_theta"]
    assert parse_config(old) == parse_config(new)
    assert parse_config(new).text.rope_scaling == YarnScaling(64.0, 4096, 32.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "rope", [{}, {"rope_scaling": None}, {"rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}}]
)
def test_without_yarn_nothing_is_stretched(rope):
    text = parse_config(with_text(**rope)).text
    assert (text.rope_scaling, text.rope_theta) == (None, 50000.0)


def test_vision_sizes_are_taken_with_and_without_their_prefix():
    prefixed = with_vision(vt_hidden_size=96, vt_num_attention_heads=6, init_pos_emb_height=16)
    plain = with_vision(hidden_size=96, num_attention_heads=6, pos_emb_height=16)
    assert parse_config(prefixed) == parse_config(plain)
    assert parse_config(prefixed).vision.pos_emb_height == 16


def test_absent_vision_keys_have_the_published_values():
    vision = parse_config(copy.deepcopy(SMALL)).vision
    assert (vision.patch_size, vision.hidden_size, vision.intermediate_size) == (14, 1152, 4304)
    assert (vision.merge_kernel_size, vision.text_hidden_size) == ((2, 2), 8)


def test_every_missing_key_is_named_at_once():
    values = copy.deepcopy(SMALL)
    del values["text_config"]["hidden_size"], values["text_config"]["kv_lora_rank"]
    del values["media_placeholder_token_id"]
    with pytest.raises(CheckpointError) as caught:
        parse_config(values)
    for name in ("text_config.hidden_size", "text_config.kv_lora_rank", "media_placeholder_token_id"):
        assert f"{name} is missing" in caught.value.message


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hidden_size": "8"}, "hidden_size must be an integer"),
        ({"hidden_size": 0}, "hidden_size must be an integer of at least 1"),
        ({"vocab_size": True}, "vocab_size must be an integer"),
        ({"rms_norm_eps": "tiny"}, "rms_norm_eps must be a positive number"),
        ({"norm_topk_prob": 1}, "norm_topk_prob must be true or false"),
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"scoring_func": "softmax"}, "scoring_func is 'softmax'"),
        ({"n_group": 8}, "n_group is 8"),
        ({"moe_layer_freq": 2}, "moe_layer_freq is 2"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is True"),
        ({"q_lora_rank": None}, "q_lora_rank is missing"),
        ({"num_experts_per_tok": 5}, "num_experts_per_tok exceeds"),
        ({"qk_rope_head_dim": 3}, "qk_rope_head_dim must be even"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling.type is 'linear'"),
        ({"rope_scaling": {"type": "yarn"}}, "rope_scaling.factor is missing"),
        ({"rope_scaling": 4}, "rope_scaling must be an object"),
        ({"rope_scaling": YARN | {"type": "yarn", "attention_factor": 1.2}}, "rope_scaling.attention_factor"),
        ({"rope_scaling": YARN | {"type": "yarn", "truncate": False}}, "rope_scaling.truncate is False"),
        ({"rope_scaling": YARN | {"type": "yarn", "mscale": None}}, "rope_scaling.mscale is missing beside"),
        (
            {"rope_scaling": YARN | {"type": "yarn", "mscale": 0.7, "mscale_all_dim": 0}},
            "rope_scaling.mscale",
        ),
        ({"rope_scaling": {"type": "default", "partial_rotary_factor": 0.5}}, "rope_scaling.partial_rotary"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"rope_interleave": False}, "rope_interleave is False"),
        ({"num_key_value_heads": 1}, "num_key_value_heads is 1; supported: 2"),
        ({"n_group": None}, "n_group is None; supported: 1"),
    ],
)
def test_a_value_this_engine_does_not_compute_is_named(changes, named):
    with pytest.raises(CheckpointError) as caught:
        parse_config(with_text(**changes))
    assert f"text_config.{named}" in caught.value.message


@pytest.mark.parametrize(
    ("vision", "named"),
    [
        ({"vt_hidden_size": 10, "vt_num_attention_heads": 2}, "vt_hidden_size must be a multiple of 4"),
        ({"merge_kernel_size": [2]}, "merge_kernel_size must be two positive integers"),
        ({"text_hidden_size": 9}, "text_hidden_size is not the text model's"),
        ({"pos_emb_type": "other"}, "pos_emb_type is 'other'"),
        ({"projector_hidden_act": "silu"}, "projector_hidden_act is 'silu'"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"mm_hidden_size": 9}, "mm_hidden_size is 9; supported: 1152"),
        ({"rope_parameters": {"rope_type": "axial", "rope_theta": 5e5}}, "rope_parameters.rope_theta"),
    ],
)
def test_a_vision_value_that_does_not_fit_is_named(vision, named):
    with pytest.raises(CheckpointError) as caught:
        parse_config(with_vision(**vision))
    assert f"vision_config.{named}" in caught.value.message


@pytest.mark.parametrize(
    ("key", "value"),
    [("tie_word_embeddings", True), ("projection_hidden_size", 9), ("projection_layer_norm_eps", 1e-3)],
)
def test_a_value_beside_the_sections_that_is_not_computed_is_named(key, value):
    with pytest.raises(CheckpointError, match=f": {key} is {value}; supported"):
        parse_config(copy.deepcopy(SMALL) | {key: value})


@pytest.mark.parametrize("changes", [{}, {"mscale": 1.0}, {"mscale_all_dim": 0}, {"mscale_all_dim": None}])
def test_a_stretch_without_mscale_all_dim_leaves_the_scores_as_they_are(changes):
    rope = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "truncate": True} | changes
    text = parse_config(with_text(rope_scaling=rope)).text
    assert text.rope_scaling == YarnScaling(4.0, 64, 32.0, 1.0, 1.0, 0.0)


@pytest.mark.parametrize("values", [{"text_config": 3}, {}])
def test_a_file_without_a_text_model_is_refused(values):
    with pytest.raises(CheckpointError, match="text_config"):
        parse_config(values | {"model_type": "kimi_k25"})


@pytest.mark.parametrize(("values", "named"), [({"model_type": "llama"}, "'llama'"), ({}, "missing")])
def test_a_model_type_that_is_not_served_is_refused_with_those_that_are(values, named):
    with pytest.raises(CheckpointError, match=rf"^there: model_type is {named}; served: kimi_k25$"):
        parse_config(values, "there")


@pytest.mark.parametrize(
    ("content", "named"), [(None, "cannot be read"), ("{", "not JSON"), ("[]", "no JSON object")]
)
def test_a_file_that_is_no_configuration_is_named(tmp_path, content, named):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=named):
        load_config(tmp_path)


INT4 = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {
                "num_bits": 4,
                "type": "int",
                "symmetric": True,
                "strategy": "group",
                "group_size": 32,
            },
        }
    },
}
WIDE = {"hidden_size": 64, "moe_intermediate_size": 32}


def test_quantisation_is_seen_in_both_places():
    inside = with_text(quantization_config=INT4, **WIDE)
    assert parse_config(inside).quantization == "compressed-tensors"
    outside = with_text(**WIDE) | {"quantization_config": INT4}
    assert parse_config(outside).quantization == "compressed-tensors"


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("quant_method",), "gptq", "quant_method is 'gptq'; supported: 'compressed-tensors'"),
        (("format",), "int-quantized", "format is 'int-quantized'; supported: 'pack-quantized'"),
        (("config_groups",), {}, "config_groups must be one group, not 0"),
        (("config_groups", "group_0", "input_activations"), {"num_bits": 8}, "group_0.input_activations"),
        (("config_groups", "group_0", "weights", "num_bits"), 8, "weights.num_bits is 8; supported: 4"),
        (("config_groups", "group_0", "weights", "symmetric"), False, "weights.symmetric is False"),
        (("config_groups", "group_0", "weights", "group_size"), 128, "weights.group_size is 128"),
        (("config_groups", "group_0", "weights", "actorder"), "group", "weights.actorder is 'group'"),
    ],
)
def test_an_unsupported_quantisation_names_the_key_and_what_is_supported(path, value, named):
    scheme = copy.deepcopy(INT4)
    section = scheme
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    with pytest.raises(CheckpointError) as caught:
        parse_config(with_text(quantization_config=scheme, **WIDE))
    assert "text_config.quantization_config." in caught.value.message
    assert named in caught.value.message


def test_int4_experts_need_widths_of_whole_groups():
    with pytest.raises(CheckpointError, match=r"text_config.moe_intermediate_size must be a multiple of 32"):
        parse_config(with_text(quantization_config=INT4, hidden_size=64))
