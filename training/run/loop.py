"""The training run: starts from the last checkpoint, trains step by step and writes a log."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from services.engine.model.architectures import load_config
from services.engine.weights.checkpoint import Checkpoint
from services.families.kimi.tokenizer import KimiTokenizer
from training.data.stream import StreamPlan
from training.model.model import TrainedModel, trained_weights
from training.run import checkpoint
from training.run.accuracy import HeldOut
from training.run.checkpoint import Progress
from training.run.prefetch import batches
from training.run.ranks import Ranks
from training.run.schedule import Schedule
from training.run.settings import RunSettings
from training.run.trainer import Rates, Trainer
from training.skills.curriculum import Curriculum

_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class Run:
    """A training run in `directory`, which already holds the tokenizer and config.json; see
    `training/run/__main__.py`. With several `ranks`, only rank 0 writes and reports.
    """

    def __init__(
        self,
        settings: RunSettings,
        report: Callable[[str], None] = print,
        ranks: Ranks = Ranks(),  # noqa: B008 - it cannot change
    ) -> None:
        self._settings = settings
        self._report = report
        self._ranks = ranks
        self._device = torch.device(settings.device)
        torch.set_num_threads(settings.threads)
        model = TrainedModel(load_config(settings.directory), settings.seed)
        rates = Rates(settings.muon_rate, settings.adam_rate)
        self.trainer = Trainer(model, rates, self._device, _DTYPES[settings.dtype], ranks, settings.compile)
        self.progress = Progress()
        if found := checkpoint.saved(settings.directory):
            self.progress = checkpoint.restore(found[-1], self.trainer.state())
            report(f"going on from {found[-1]}: step {self.progress.step}, {self.progress.tokens:,} tokens")
        elif settings.source is not None:
            self.progress = self._begin_from(settings.source)
            report(f"going on from {settings.source}: step {self.progress.step}, optimisers begin anew")
        if settings.vision is not None and settings.vision.name != self.progress.vision:
            count = checkpoint.take_vision(settings.vision, model)
            self.progress.vision = settings.vision.name
            report(f"{count} weights of the vision part from {settings.vision}")
        self._held_out = HeldOut(
            Curriculum(settings.seed), KimiTokenizer.from_dir(settings.directory), settings.eval_cases
        )

    def train(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Trains up to `steps` or `minutes`, or until `stop` returns true; saves at the end."""
        settings = self._settings
        schedule = Schedule(
            settings.steps, settings.warmup_steps, settings.decay_steps, self.progress.first_step
        )
        plan = StreamPlan(
            settings.seed,
            settings.batch_tokens,
            settings.row_lengths,
            settings.micro_tokens,
            settings.pictures_from,
            self._ranks.rank,
            self._ranks.size,
        )
        began = time.monotonic()
        tokens_before, losses = self.progress.tokens, []
        stretch = self._stretch()
        made = batches(plan, settings.directory, self.progress.step, settings.steps, settings.data_workers)
        for batch in made:
            step = self.progress.step
            as_int4 = schedule.decays(step)
            for experts in self.trainer.model.experts():
                experts.fake_quant = as_int4
            for mixture in self.trainer.model.mixtures():
                mixture.routed = step >= settings.experts_from
            self.progress.int4_steps += as_int4
            losses.append(self.trainer.step(batch, step + 1 - schedule.first, schedule.factor(step)))
            self.progress.step += 1
            tokens = sum(int((rows.documents > 0).sum()) for rows in batch)
            late = settings.minutes > 0 and time.monotonic() - began >= 60 * settings.minutes
            pictures = sum(len(rows.pictures) for rows in batch)
            tokens, pictures, ended = map(int, self._ranks.total(tokens, pictures, late or stop()))
            self.progress.tokens += tokens
            self.progress.picture_steps += pictures > 0
            stretch |= {"steps": stretch["steps"] + 1, "seconds": time.monotonic() - began}
            stretch["tokens"] = self.progress.tokens - tokens_before
            if self.progress.step % settings.log_every == 0:
                rate = stretch["tokens"] / stretch["seconds"]
                loss = sum(losses) / len(losses)
                self._log({"loss": loss, "tokens_per_second": rate, "factor": schedule.factor(step)})
                losses = []
            if ended:
                break
            if self.progress.step % settings.save_every == 0:
                self._save()
            if self.progress.step % settings.eval_every == 0:
                self.evaluate()
        made.close()
        self._save()

    def evaluate(self) -> dict[str, Any]:
        """Measures the held-out accuracy of each skill and logs it; empty on all ranks except rank 0."""
        if self._ranks.rank:
            return {}
        with torch.compiler.set_stance("force_eager"):  # without gradients, everything would be recompiled
            measured = list(self._held_out.measure(self.trainer, self._device))
        results = {result.skill: asdict(result) for result in measured}
        self._log({"held_out": results})
        return results

    def _begin_from(self, source: Path) -> Progress:
        """Loads the weights and the progress of `source`. CheckpointError if the weights do not fit this
        model.
        """
        model = self.trainer.model
        state = model.state_dict()
        reader = Checkpoint.checked(source).reader(torch.float32)
        experts = model.config.text.n_routed_experts
        model.load_state_dict(trained_weights(reader.read, state, experts))
        progress = checkpoint.read_progress(source / checkpoint.TRAINING_FILE)
        progress.first_step = progress.step
        return progress

    def _stretch(self) -> dict[str, Any]:
        """Appends this run to the list of runs that trained the model."""
        threads = self._settings.threads
        cpu = f"CPU, {threads * self._ranks.size} threads"
        name = torch.cuda.get_device_name() if self._device.type == "cuda" else cpu
        added = {"device": name, "dtype": self._settings.dtype, "steps": 0, "tokens": 0, "seconds": 0.0}
        self.progress.stretches.append(added)
        return added

    def _save(self) -> None:
        if self._ranks.rank == 0:
            checkpoint.save(self._settings.directory, self.trainer.state(), self.progress)

    def _log(self, values: dict[str, Any]) -> None:
        if self._ranks.rank:
            return
        line = {"step": self.progress.step, "tokens": self.progress.tokens} | values
        with (Path(self._settings.directory) / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if "held_out" in values:
            scores = [
                f"{name} {result['exact']}/{result['cases']}" for name, result in values["held_out"].items()
            ]
            self._report(f"step {self.progress.step}: {', '.join(scores)}")
        else:
            self._report(
                f"step {self.progress.step}: loss {values['loss']:.4f}, {self.progress.tokens:,} tokens, "
                f"{values['tokens_per_second']:,.0f} a second"
            )


def follow(settings: RunSettings, ranks: Ranks) -> None:
    """The work of a process whose rank is not 0; the process ends when rank 0 ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    Run(settings, lambda _: None, ranks).train()
