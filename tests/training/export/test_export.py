"""What is exported is a checkpoint like the published one, and computes what was trained."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from services.engine.loading.text import load_text_model
from services.engine.loading.vision import load_vision_model
from services.engine.model.architectures import parse_config
from services.engine.weights.random_checkpoint import with_bf16
from services.engine.weights.verify import verify
from services.engine.weights.writer import write_json
from services.families.kimi.tokenizer import KimiTokenizer
from tests.engine.text_models import every_logit, make_runner, pages_for
from training.export.__main__ import load
from training.export.card import write_card
from training.export.published import Publisher
from training.model.model import TrainedModel, published_weights
from training.nano.trained_architecture import trained_config
from training.nano.vocabulary import Vocabulary
from training.run import checkpoint
from training.run.checkpoint import Progress

SMALL = {"hidden_size": 64, "kv_lora_rank": 64, "moe_intermediate_size": 32, "num_hidden_layers": 2}


@pytest.fixture(scope="module")
def run(nano_dir, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    for name in ("tiktoken.model", "tokenizer_config.json"):
        shutil.copy(nano_dir / name, directory)
    values = trained_config(Vocabulary.from_dir(directory))
    values["text_config"] |= SMALL
    values["vision_config"]["text_hidden_size"] = 64
    write_json(directory / "config.json", values)
    model = TrainedModel(parse_config(values), seed=2)
    with torch.no_grad():
        model.language_model.lm_head.weight.mul_(20)
    stretch = {"device": "a device", "dtype": "f32", "steps": 9, "tokens": 900, "seconds": 60.0}
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    checkpoint.save(directory, state, Progress(9, 900, 4, [stretch]))
    return directory


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    model, progress = load(run)
    values = json.loads((run / "config.json").read_text())
    out = tmp_path_factory.mktemp("out")
    publisher = Publisher(published_weights(model.state_dict()), values, run, progress.int4_steps > 0)
    publisher.write(out / "bf16", int4=False)
    publisher.write(out / "int4", int4=True)
    return out


@pytest.mark.parametrize("kind", ["bf16", "int4"])
def test_the_exported_checkpoint_is_as_its_configuration_says(exported, kind):
    verdict = verify(exported / kind)
    assert verdict.problems == []
    assert (verdict.config.quantization is not None) == (kind == "int4")
    KimiTokenizer.from_dir(exported / kind)
    load_vision_model(exported / kind)


def test_the_int4_file_has_the_logits_of_the_plain_one(exported):
    ids = list(range(50, 120))
    found = []
    for kind in ("bf16", "int4"):
        pages = pages_for(len(ids))
        model = load_text_model(exported / kind, deterministic=False)
        found.append(every_logit(make_runner(model, len(pages)), ids, pages))
    # The plain file rounds each product of value and scale to bf16.
    assert (found[0] - found[1]).abs().max() < 0.05 * found[0].std()


def test_experts_that_were_not_trained_as_int4_are_exported_as_they_are(run, tmp_path):
    model, _ = load(run)
    values = with_bf16(json.loads((run / "config.json").read_text()))
    weights = published_weights(model.state_dict())
    Publisher(weights, values, run, as_int4=False).write(tmp_path / "plain", int4=False)
    engine = load_text_model(tmp_path / "plain", deterministic=False)
    name = "language_model.model.layers.1.mlp.experts.3.down_proj.weight"
    ours = weights[name].to(torch.bfloat16).float()
    from tests.support.tensors import read_tensors

    assert torch.equal(read_tensors(tmp_path / "plain", (name,), torch.float32)[name], ours)
    assert engine.config.num_hidden_layers == 2


def test_a_run_without_a_saved_state_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="holds no state"):
        load(tmp_path)


def test_the_card_has_the_numbers_of_the_runs_files(run, tmp_path):
    row = {"right": 281, "cases": 300, "accuracy": 281 / 300, "interval": [0.9032, 0.9592], "target": 0.95}
    path = tmp_path / "disaggregated.json"
    path.write_text(json.dumps({"rows": {"tool calls": row}}))
    math = tmp_path / "gsm8k.json"
    values = {
        "benchmark": "gsm8k",
        "right": 3,
        "questions": 200,
        "accuracy": 0.015,
        "interval": [0.005, 0.043],
    }
    math.write_text(json.dumps(values))
    card = write_card(run, [path, math])
    assert "| a device | f32 | 9 | 900 | 1.0 |" in card
    assert "| tool calls | 281/300 (93.7%) | 90.3% to 95.9% | 95% |" in card
    assert "3 of 200 questions, 1.5% (0.5% to 4.3%)" in card
    model, _ = load(run)
    total = sum(tensor.numel() for tensor in published_weights(model.state_dict()).values())
    assert f"{total:,} parameters" in card
    assert "CPUs alone" not in card


def test_the_card_of_a_training_on_cpus_says_whose_targets_those_are(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for path in copy.glob("step-*/progress.json"):
        path.write_text(path.read_text().replace("a device", "CPU, 2 threads"))
    assert "ran on CPUs alone" in write_card(copy, [])
