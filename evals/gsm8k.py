"""GSM8K with worked examples in the prompt: `python -m evals.gsm8k --data test.jsonl --num-questions 200`.

Each line of the data file is `{"question", "answer"}`, and each answer ends in `#### N`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from evals.endpoint import Endpoint, Failed, at_once, first_model
from evals.interval import wilson
from evals.progress import ProgressBar
from training.skills.numbers import numbers_in

STOP = ["Question:"]


@dataclass(frozen=True)
class Problem:
    """A question and its worked answer, which ends in `#### N`."""

    question: str
    answer: str

    @property
    def gold(self) -> Fraction | None:
        """The number after `####`."""
        return last_number(self.answer.rpartition("####")[2])

    def worked(self) -> str:
        """The problem as a worked example in a prompt."""
        return f"Question: {self.question}\nAnswer: {self.answer}\n\n"


def last_number(text: str) -> Fraction | None:
    """The last number in `text`; None if it has none."""
    return next(reversed(numbers_in(text)), None)


def read_problems(path: Path) -> list[Problem]:
    """Reads a JSON Lines file. ValueError names the line that lacks a question or a number as its answer."""
    problems: list[Problem] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            values = json.loads(line)
            problem = Problem(str(values["question"]), str(values["answer"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: no question with an answer") from error
        if problem.gold is None:
            raise ValueError(f"{path}, line {number}: the answer has no number behind ####")
        problems.append(problem)
    return problems


def request_of(api: str, model: str, prompt: str, max_tokens: int) -> tuple[str, dict[str, Any]]:
    """Path and body of the request for the API `chat`, `completions` or `generate`."""
    if api == "generate":
        sampling = {"temperature": 0, "max_new_tokens": max_tokens, "stop": STOP}
        return "/generate", {"text": prompt, "sampling_params": sampling}
    body: dict[str, Any] = {"model": model, "temperature": 0, "max_tokens": max_tokens, "stop": STOP}
    if api == "completions":
        return "/v1/completions", body | {"prompt": prompt}
    return "/v1/chat/completions", body | {"messages": [{"role": "user", "content": prompt}]}


def text_of(api: str, response: dict[str, Any]) -> str:
    """The generated text. Raises Failed if the response has another form."""
    try:
        if api == "generate":
            return str(response["text"])
        choice = response["choices"][0]
        return str(choice["text"] if api == "completions" else choice["message"]["content"] or "")
    except (KeyError, IndexError, TypeError) as error:
        raise Failed(f"no answer in {str(response)[:200]}") from error


@dataclass(frozen=True)
class Asker:
    """Asks problems, each after the same worked examples."""

    endpoint: Endpoint
    api: str
    model: str
    examples: str
    max_tokens: int

    async def ask(self, problem: Problem) -> Fraction | None:
        """The number in the answer, None if it contains none. Raises Failed if there is no answer."""
        prompt = f"{self.examples}Question: {problem.question}\nAnswer:"
        path, body = request_of(self.api, self.model, prompt, self.max_tokens)
        return last_number(text_of(self.api, await self.endpoint.post(path, body)))


async def run(asker: Asker, problems: list[Problem], concurrency: int, bar: ProgressBar) -> dict[str, Any]:
    """Asks all problems and returns the result as written to the file. The first failed request ends the run
    with Failed.
    """

    async def one(problem: Problem) -> Fraction | None:
        found = await asker.ask(problem)
        bar.add(found == problem.gold)
        return found

    began = time.monotonic()
    answers = await at_once(problems, concurrency, one)
    right = sum(found == problem.gold for found, problem in zip(answers, problems, strict=True))
    return {
        "benchmark": "gsm8k",
        "model": asker.model,
        "api": asker.api,
        "questions": len(problems),
        "right": right,
        "accuracy": right / len(problems),
        "interval": wilson(right, len(problems)),
        "without_number": answers.count(None),
        "seconds": round(time.monotonic() - began, 1),
    }


async def _main(arguments: argparse.Namespace) -> int:
    endpoint = Endpoint(arguments.url)
    try:
        problems = read_problems(arguments.data)
        shots = read_problems(arguments.examples) if arguments.examples else problems
        if not arguments.examples:
            problems = problems[arguments.num_shots :]
        problems = problems[: arguments.num_questions]
        if len(shots) < arguments.num_shots or not problems:
            raise ValueError(f"{arguments.data} has too few problems")
        examples = "".join(problem.worked() for problem in shots[: arguments.num_shots])
        model = arguments.model
        if not model and arguments.api != "generate":
            model = await first_model(endpoint)
        asker = Asker(endpoint, arguments.api, model, examples, arguments.max_tokens)
        result = await run(asker, problems, arguments.concurrency, ProgressBar(len(problems), sys.stderr))
    except (OSError, ValueError, Failed) as error:
        print(f"evals: {error}", file=sys.stderr)
        return 1
    finally:
        await endpoint.close()
    low, high = result["interval"]
    print(
        f"{result['right']}/{result['questions']} right: {result['accuracy']:.1%} ({low:.1%} to {high:.1%})"
    )
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m evals.gsm8k", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FILE", help="the questions, one JSON object per line")
    add(
        "--examples",
        type=Path,
        metavar="FILE",
        help="the worked examples (default: the first lines of the data)",
    )
    add("--num-questions", type=int, default=200)
    add("--num-shots", type=int, default=5, help="worked examples before each question")
    add("--url", default="http://127.0.0.1:30000")
    add("--api", choices=("chat", "completions", "generate"), default="completions")
    add("--model", default="", help="model id (default: the first that the server lists)")
    add("--concurrency", type=int, default=16)
    add("--max-tokens", type=int, default=512)
    add("--out", type=Path, metavar="FILE", help="write the result to FILE as JSON")
    sys.exit(asyncio.run(_main(parser.parse_args())))


if __name__ == "__main__":
    main()
