"""Compares the figures of `perigee bench` with those of SGLang's own benchmark, against one running suite.

python -m benchmarks.bench_serving --command "/path/to/python -m sglang.bench_serving" [--rounds 5]

Both run one scenario in turn, with the same lengths, over /v1/completions, each time on emptied caches. Exits
with 1 if the medians of TTFT, TPOT or output tokens per second differ by more than 5 %, and by more than
SGLang's own runs differ among themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.result import write_result
from services.cli.bench.workload.scenario import COOKBOOK, Scenario
from services.families.registry import family_in

BOUND = 0.05
WORDS = 1000
_OURS = [sys.executable, "-m", "services.cli.main"]
FIGURES = {
    "TTFT p50, ms": ("median_ttft_ms", lambda found: found["ttft"]["p50"]),
    "TPOT p50, ms": ("median_tpot_ms", lambda found: found["tpot"]["p50"]),
    "output tokens/s": ("output_throughput", lambda found: found["output_rate"]),
}
"""Name: its key in the results of SGLang's benchmark, and where it is in ours."""


def write_tokenizer(model: Path, directory: Path) -> None:
    """Writes a tokenizer of whole words, in the format of transformers: a text of its ids has as many tokens
    in the tokenizer of `model`. So prompts have the lengths that SGLang's benchmark means.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    real = family_in(model).open_chat(model).tokenizer
    texts = (real.decode([token]) for token in range(real.vocab_size))
    single = [text[1:] for text in texts if text[:1] == " " and text[1:].isascii() and text[1:].isalpha()]
    vocabulary = {word: number for number, word in enumerate(single[:WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=single[0]))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token=single[0]).save_pretrained(directory)


def theirs(
    command: str, url: str, served: str, scenario: Scenario, tokenizer: Path, scratch: Path
) -> dict[str, Any]:
    """Runs SGLang's benchmark; returns its figures."""
    out = scratch / "theirs.jsonl"
    out.unlink(missing_ok=True)
    words = [
        *shlex.split(command), "--backend", "sglang-oai", "--base-url", url, "--model", served,
        "--tokenizer", str(tokenizer), "--dataset-name", "random-ids", "--seed", "1", "--disable-tqdm",
        "--random-input-len", str(scenario.input_tokens), "--random-output-len", str(scenario.output_tokens),
        "--num-prompts", str(scenario.requests), "--max-concurrency", str(scenario.concurrency),
        "--extra-request-body", '{"skip_special_tokens": false}', "--output-file", str(out),
    ]  # fmt: skip
    # It would look for a chat template of the served name, which nothing here uses.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def ours(url: str, scenario: str, scale: float, scratch: Path) -> dict[str, Any]:
    """Runs `perigee bench`; returns its figures."""
    out = scratch / "ours.jsonl"
    words = [*_OURS, "bench", scenario, "--scale", str(scale), "--target", url, "--json", "--out", str(out)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def compare(rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Prints a line per figure; returns what it found. `rows`: ours and theirs of each round."""
    found = {}
    print(f"{'':18}{'ours':>10}{'theirs':>10}{'ratio':>8}  allowed  (medians of {len(rows)} runs each)")
    for name, (key, own) in FIGURES.items():
        mine, others = [own(row[0]) for row in rows], [row[1][key] for row in rows]
        median, reference = statistics.median(mine), statistics.median(others)
        allowed = max(BOUND, (max(others) - min(others)) / reference)
        ratio = median / reference
        print(f"{name:18}{median:10.2f}{reference:10.2f}{ratio:8.3f}  {allowed:.1%}")
        found[name] = {"ours": median, "theirs": reference, "ratio": ratio, "allowed": allowed}
    return found


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_serving", description=__doc__)
    parser.add_argument("--command", required=True, help="of SGLang's benchmark")
    parser.add_argument("--url", default="http://127.0.0.1:30000")
    parser.add_argument("--operator", default="127.0.0.1:50049", help="the gateway's operator port")
    parser.add_argument("--model", type=Path, default=Path("models/kimi-nano"), help="what is served")
    parser.add_argument("--served", default="kimi-nano", help="its name")
    parser.add_argument("--scenario", choices=COOKBOOK, default="chat-16")
    parser.add_argument("--scale", type=float, default=0.2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None, help="JSON beside the table")
    options = parser.parse_args(argv)
    scenario = COOKBOOK[options.scenario].scaled(options.scale)
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        write_tokenizer(options.model, scratch / "tokenizer")
        for _ in range(options.rounds):
            flush = [*_OURS, "flush", "--address", options.operator]
            subprocess.run(flush, check=True, stdout=subprocess.DEVNULL)
            own = ours(options.url, options.scenario, options.scale, scratch)
            subprocess.run(flush, check=True, stdout=subprocess.DEVNULL)
            other = theirs(
                options.command, options.url, options.served, scenario, scratch / "tokenizer", scratch
            )
            rows.append((own, other))
    found = compare(rows)
    write_result(options.out, {"figures": found, "rounds": rows})
    return int(any(abs(each["ratio"] - 1) > each["allowed"] for each in found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
