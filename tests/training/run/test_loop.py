"""A run begins, stops, and goes on from its directory."""

from __future__ import annotations

import json
import shutil

import pytest

from services.engine.weights.writer import write_json
from training.nano.trained_architecture import trained_config
from training.nano.vocabulary import Vocabulary
from training.run import checkpoint
from training.run.loop import Run
from training.run.settings import read_settings

SMALL = {"hidden_size": 32, "kv_lora_rank": 32, "moe_intermediate_size": 32, "num_hidden_layers": 2}
FLAGS = "--batch-tokens 300 --row-lengths 512 --eval-cases 1 --log-every 1 --warmup-steps 2"


@pytest.fixture
def directory(nano_dir, tmp_path):
    for name in ("tiktoken.model", "tokenizer_config.json"):
        shutil.copy(nano_dir / name, tmp_path)
    values = trained_config(Vocabulary.from_dir(tmp_path))
    values["text_config"] |= SMALL
    values["vision_config"] |= {"text_hidden_size": 32, "vt_hidden_size": 40, "mm_hidden_size": 40}
    write_json(tmp_path / "config.json", values)
    return tmp_path


def make_run(directory, steps, more=""):
    said = []
    arguments = f"--dir {directory} --steps {steps} {FLAGS} {more}".split()
    return Run(read_settings(arguments), said.append), said


def losses(directory):
    lines = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_a_run_in_two_parts_logs_the_losses_of_one_in_one_part(directory, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "run"
    shutil.copytree(directory, other)
    make_run(directory, 4)[0].train()
    make_run(other, 2)[0].train()
    run, said = make_run(other, 4)
    assert said[0].startswith("going on from")
    assert "step 2" in said[0]
    run.train()
    assert losses(other) == losses(directory)
    assert len(losses(other)) == 4
    stretches = run.progress.stretches
    assert [stretch["steps"] for stretch in stretches] == [2, 2]
    assert sum(stretch["tokens"] for stretch in stretches) == run.progress.tokens


def test_a_run_that_is_told_to_stop_saves_and_ends(directory):
    run, _ = make_run(directory, 1000)
    run.train(lambda: run.progress.step == 2)
    assert run.progress.step == 2
    assert [path.name for path in checkpoint.saved(directory)] == ["step-00000002"]


def test_the_last_steps_train_the_experts_as_int4(directory):
    run, _ = make_run(directory, 3, "--decay-steps 2")
    run.train()
    assert run.progress.int4_steps == 2


def test_an_evaluation_reports_every_skill(directory):
    run, said = make_run(directory, 1)
    results = run.evaluate()
    assert set(results) == set(run._held_out._examples)
    assert all(result["cases"] == 1 and result["loss"] > 0 for result in results.values())
    assert "compare 0/1" in said[-1]
