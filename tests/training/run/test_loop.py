"""A run begins, stops, and goes on from its directory."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest
import torch

from services.engine.weights.writer import write_json
from services.families.kimi.tokenizer import KimiTokenizer
from training.data.stream import Stream, StreamPlan
from training.export.__main__ import main as export
from training.nano.trained_architecture import trained_config
from training.nano.vocabulary import Vocabulary
from training.run import checkpoint
from training.run.__main__ import prepare
from training.run.loop import Run
from training.run.schedule import Schedule
from training.run.settings import read_settings

SMALL = {"hidden_size": 32, "kv_lora_rank": 32, "moe_intermediate_size": 32, "num_hidden_layers": 2}
FLAGS = "--batch-tokens 300 --row-lengths 512 --eval-cases 1 --log-every 1 --warmup-steps 2"


@pytest.fixture
def directory(nano_dir, tmp_path):
    for name in ("tiktoken.model", "tokenizer_config.json"):
        shutil.copy(nano_dir / name, tmp_path)
    values = trained_config(Vocabulary.from_dir(tmp_path))
    values["text_config"] |= SMALL
    values["vision_config"] |= {"text_hidden_size": 32, "vt_hidden_size": 48, "mm_hidden_size": 48}
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


def test_two_processes_take_the_steps_of_one_that_has_both_shares_of_each_batch(directory):
    prepare(directory, None)
    settings = read_settings(f"--dir {directory} --steps 3 {FLAGS}".split())
    plan = StreamPlan(
        settings.seed, settings.batch_tokens, settings.row_lengths, settings.micro_tokens, ranks=2
    )
    tokenizer = KimiTokenizer.from_dir(directory)
    streams = [Stream(dataclasses.replace(plan, rank=rank), tokenizer) for rank in range(2)]
    trainer = make_run(directory, 3)[0].trainer
    expected = [
        trainer.step([*streams[0].batch(n), *streams[1].batch(n)], n + 1, Schedule(3, 2, 0).factor(n))
        for n in range(3)
    ]
    command = f"{sys.executable} -m training.run --dir {directory} --steps 3 --processes 2 {FLAGS}"
    subprocess.run(command.split(), check=True, timeout=120)
    assert losses(directory) == pytest.approx(expected, rel=1e-3)
    progress = checkpoint.restore(checkpoint.saved(directory)[-1], make_run(directory, 3)[0].trainer.state())
    assert progress.tokens == sum(
        int((rows.documents > 0).sum()) for stream in streams for n in range(3) for rows in stream.batch(n)
    )


def test_routed_experts_join_when_they_are_told_to(directory):
    run, _ = make_run(directory, 2, "--experts-from 2")
    run.train()
    experts = run.trainer.model.experts()[0]
    assert not experts.down_proj.any()
    run, _ = make_run(directory, 3, "--experts-from 2")
    run.train()
    assert run.trainer.model.experts()[0].down_proj.any()


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


def test_a_run_goes_on_from_exported_weights_with_optimisers_that_begin_anew(
    directory, tmp_path_factory, monkeypatch
):
    run, _ = make_run(directory, 3)
    run.train()
    out = tmp_path_factory.mktemp("out") / "model"
    monkeypatch.setattr("sys.argv", ["export", "--run", str(directory), "--out", str(out)])
    export()
    again = tmp_path_factory.mktemp("again") / "run"
    prepare(again, out)
    later, said = make_run(again, 5, f"--from {out}")
    assert f"going on from {out}: step 3" in said[0]
    assert later.progress.tokens == run.progress.tokens
    weights, found = run.trainer.model.state_dict(), later.trainer.model.state_dict()
    assert all(torch.equal(weight.bfloat16(), found[name].bfloat16()) for name, weight in weights.items())
    later.train()
    assert later.progress.step == 5
    lines = [json.loads(line) for line in (again / "log.jsonl").read_text().splitlines()]
    assert [line["factor"] for line in lines if "factor" in line] == [0.5, 1.0]
