"""Training lowers the loss, and goes on from a checkpoint as if it had never stopped."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from services.engine.model.config.model_config import ModelConfig
from services.engine.model.config.vision_config import VisionModelConfig
from services.families.kimi.tokenizer import KimiTokenizer
from tests.engine.text_models import tiny_config
from training.data.stream import Stream, StreamPlan
from training.model.model import TrainedModel
from training.run import checkpoint
from training.run.checkpoint import Progress
from training.run.schedule import Schedule
from training.run.trainer import Rates, Trainer

VISION = VisionModelConfig(14, 8, 8, 4, 2, 1, 16, 24, (2, 2), 32, 1e-5)
PLAN = StreamPlan(seed=1, batch_tokens=400, row_lengths=(256,), micro_tokens=1024)


@pytest.fixture(autouse=True)
def one_thread():
    """With more, sums are split as the machine's load has it, and the last bits vary."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def batches(nano_dir):
    stream = Stream(PLAN, KimiTokenizer.from_dir(nano_dir))
    return [stream.batch(number) for number in range(6)]


def make_trainer(dtype=torch.float32):
    text = tiny_config(hidden_size=32, moe_intermediate_size=32, vocab_size=2304)
    model = TrainedModel(ModelConfig("kimi_k25", text, VISION, 2069, None), seed=7)
    return Trainer(model, Rates(0.02, 0.003), torch.device("cpu"), dtype)


def test_steps_on_one_batch_lower_its_loss(batches):
    trainer = make_trainer()
    losses = [trainer.step(batches[0], number, 1.0) for number in range(1, 13)]
    assert losses[0] == pytest.approx(7.7, abs=0.3)
    assert losses[-1] < losses[0] - 1.0


def test_a_run_that_was_saved_and_restored_has_the_very_losses_of_one_that_went_on(batches, tmp_path):
    whole = make_trainer()
    losses = [whole.step(batch, number, 1.0) for number, batch in enumerate(batches, start=1)]
    first = make_trainer()
    before = [first.step(batch, number, 1.0) for number, batch in enumerate(batches[:3], start=1)]
    checkpoint.save(tmp_path, first.state(), Progress(step=3, tokens=1200))
    second = make_trainer()
    progress = checkpoint.restore(checkpoint.saved(tmp_path)[-1], second.state())
    after = [second.step(batch, progress.step + n, 1.0) for n, batch in enumerate(batches[3:], start=1)]
    assert before + after == losses


def test_int4_training_lowers_the_loss_too(batches):
    trainer = make_trainer()
    for experts in trainer.model.experts():
        experts.fake_quant = True
    losses = [trainer.step(batches[0], number, 1.0) for number in range(1, 8)]
    assert losses[-1] < losses[0]


def test_bf16_products_on_all_tokens_as_on_a_gpu_lower_the_loss_too(batches):
    trainer = make_trainer(torch.bfloat16)
    for experts in trainer.model.experts():
        experts.on_all_tokens = True
    exact = make_trainer().step(batches[0], 1, 1.0)
    losses = [trainer.step(batches[0], number, 1.0) for number in range(1, 8)]
    assert losses[0] == pytest.approx(exact, abs=0.02)
    assert losses[-1] < losses[0]
    assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())


def test_the_last_two_checkpoints_stay_in_small_files(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "MAX_FILE_BYTES", 100_000)
    trainer = make_trainer()
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, trainer.state(), Progress(step=step))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000002", "step-00000003"]
    largest = max(tensor.nbytes for tensor in trainer.state().values())
    files = list((tmp_path / "step-00000003").glob("*.safetensors"))
    assert len(files) > 3
    assert max(file.stat().st_size for file in files) < max(largest, 100_000) + 20_000


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    trainer = make_trainer()
    checkpoint.save(tmp_path, trainer.state(), Progress(step=1))
    state = dict(list(trainer.state().items())[1:])
    with pytest.raises(ValueError, match="does not fit the model"):
        checkpoint.restore(checkpoint.saved(tmp_path)[0], state)


def test_progress_comes_back_as_it_was(tmp_path):
    progress = Progress(step=5, tokens=77, stretches=[{"device": "x", "steps": 5}])
    saved = checkpoint.save(tmp_path, {"a": torch.zeros(2)}, progress)
    assert checkpoint.restore(saved, {"a": torch.ones(2)}) == progress
    assert json.loads((saved / "progress.json").read_text()) == dataclasses.asdict(progress)


def test_the_rate_warms_up_stays_and_decays_to_nearly_nothing():
    schedule = Schedule(total=100, warmup=10, decay=20)
    assert [schedule.factor(step) for step in (0, 4, 9, 50, 79)] == pytest.approx([0.1, 0.5, 1, 1, 1])
    assert schedule.factor(99) == pytest.approx(1 / 21)
    assert [schedule.decays(step) for step in (79, 80)] == [False, True]
    assert Schedule(100, 0, 0).factor(99) == 1.0
