"""Measures how many held-out answers a model gets right, without generating them.

An answer counts if at each of its places the right token is the most likely one after the right beginning:
greedy decoding then generates exactly this text. Other texts may be right as well, so the result is a lower
bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from services.families.kimi.tokenizer import KimiTokenizer
from training.data.batch import NO_TARGET, make_rows
from training.data.example import Example, encode_sample
from training.run.trainer import Trainer
from training.skills.curriculum import Curriculum

ROW_MULTIPLE = 64


@dataclass(frozen=True)
class Accuracy:
    """`exact` of `cases` answers are right from the first token to the last; `loss` is the mean per token."""

    skill: str
    cases: int
    exact: int
    loss: float


class HeldOut:
    """A fixed number of held-out cases of each skill."""

    def __init__(self, curriculum: Curriculum, tokenizer: KimiTokenizer, cases: int) -> None:
        self._pad = tokenizer.special.media_pad
        self._examples = {
            skill: [
                encode_sample(curriculum.case(skill, number), tokenizer).last_answer()
                for number in range(cases)
            ]
            for skill in curriculum.skills
        }

    @torch.no_grad()
    def measure(self, trainer: Trainer, device: torch.device) -> Iterator[Accuracy]:
        """Yields one result per skill."""
        trainer.model.eval()
        for skill, examples in self._examples.items():
            exact, losses, targets = 0, 0.0, 0
            for start in range(0, len(examples), 16):
                part = examples[start : start + 16]
                right, loss = _score(part, trainer, device, self._pad)
                exact += right
                losses += loss
                targets += sum(len(example.token_ids) - example.answer_start for example in part)
            yield Accuracy(skill, len(examples), exact, losses / targets)


def _score(examples: list[Example], trainer: Trainer, device: torch.device, pad: int) -> tuple[int, float]:
    longest = max(len(example.token_ids) for example in examples)
    rows = make_rows([[example] for example in examples], -(-longest // ROW_MULTIPLE) * ROW_MULTIPLE, pad)
    rows = rows.to(device)
    logits, targets = trainer.answer_logits(rows)
    wrong = logits.argmax(-1) != targets
    owners = torch.nonzero(rows.targets != NO_TARGET)[:, 0]
    loss = functional.cross_entropy(logits.float(), targets, reduction="sum").item()
    return len(examples) - len(set(owners[wrong].tolist())), loss
