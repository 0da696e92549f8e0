"""lm-eval's multiple choice against /v1/completions gives the scores of a forward in one process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.engine.model.text_model import TextModel
from services.families.kimi.tokenizer import KimiTokenizer
from tests.lm_eval.choice_task import NUM_ITEMS, TASK, Item, make_items, write_task
from tests.support.plain_scores import plain_logprobs
from tests.support.reference_loop import ReferenceLoop
from tests.support.stack import Stack

RUN_S = 240
SETUPS = {
    "disaggregated": (("vision", "prefill", "decode", "gateway"), {}),
    "aggregated": (
        ("vision", "decode", "gateway"),
        {"gateway": {"prefill": ""}, "decode": {"aggregated": True}},
    ),
}


@dataclass(frozen=True)
class Scored:
    """A choice's log-likelihood after its question, and whether greedy decoding would give it."""

    loglikelihood: float
    is_greedy: bool


@pytest.fixture(scope="module", params=SETUPS)
def stack(request: pytest.FixtureRequest, nano_dir: Path, tmp_path_factory: Any) -> Iterator[Stack]:
    roles, flags = SETUPS[request.param]
    with Stack(nano_dir, tmp_path_factory.mktemp("suite"), flags) as stack:
        stack.start(*roles)
        yield stack


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return make_items()


@pytest.fixture(scope="module")
def expected(nano_dir: Path, items: list[Item]) -> list[list[Scored]]:
    """By item and choice, from the model in this process."""
    model, tokenizer = ReferenceLoop(nano_dir).model, KimiTokenizer.from_dir(nano_dir)
    return [[score(model, tokenizer, item.question, choice) for choice in item.choices] for item in items]


def score(model: TextModel, tokenizer: KimiTokenizer, question: str, choice: str) -> Scored:
    """As lm-eval splits them: what a question and a choice have beyond the question's own tokens."""
    whole, start = tokenizer.encode(f"{question} {choice}"), len(tokenizer.encode(question))
    rows = plain_logprobs(model, whole)[start - 1 :]
    own = [float(row[token]) for row, token in zip(rows, whole[start:], strict=True)]
    return Scored(sum(own), [int(row.argmax()) for row in rows] == whole[start:])


def run(lm_eval: Path, stack: Stack, folder: Path, batch_size: int) -> tuple[dict[str, Any], list[Any]]:
    """lm-eval's results, and its samples by item."""
    model = {
        "model": stack.model.name,
        "base_url": f"{stack.base_url}/v1/completions",
        "num_concurrent": 8,
        "max_retries": 1,
    }
    environment = {
        **os.environ,
        "HF_HOME": str(folder / "home"),
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        "NO_PROXY": "*",
    }
    options = {
        "--model": "local-completions",
        "--model_args": ",".join(f"{name}={value}" for name, value in model.items()),
        "--batch_size": str(batch_size),
        "--tasks": TASK,
        "--include_path": str(folder),
        "--output_path": str(folder / "out"),
    }
    command = [str(lm_eval), "-m", "lm_eval", "run", *(part for pair in options.items() for part in pair)]
    done = subprocess.run(
        [*command, "--log_samples"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    [results] = (folder / "out").rglob("results_*.json")
    [samples] = (folder / "out").rglob(f"samples_{TASK}_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    return json.loads(results.read_text())["results"][TASK], sorted(lines, key=lambda line: line["doc_id"])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("batch_size", [1, 16])
def test_its_scores_are_those_of_a_single_process(lm_eval, stack, items, expected, tmp_path, batch_size):
    write_task(tmp_path, items)
    results, samples = run(lm_eval, stack, tmp_path, batch_size)
    assert len(samples) == NUM_ITEMS
    for sample, scored in zip(samples, expected, strict=True):
        found = [response[0] for response in sample["resps"]]
        assert [float(loglikelihood) for loglikelihood, _ in found] == pytest.approx(
            [each.loglikelihood for each in scored], rel=1e-6, abs=2e-5
        )
        assert [str(is_greedy) for _, is_greedy in found] == [str(each.is_greedy) for each in scored]
    chosen = [max(range(len(scored)), key=lambda index: scored[index].loglikelihood) for scored in expected]
    right = sum(choice == item.answer for choice, item in zip(chosen, items, strict=True))
    assert results["acc,none"] == pytest.approx(right / NUM_ITEMS)
