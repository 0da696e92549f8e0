"""Runs made by hand."""

from __future__ import annotations

from services.cli.bench.records import FORMAT, Began, Request, Run


def began(run="chat-1-a", scale=1.0, label="ours", scenario="chat-1", **fields) -> Began:
    """The beginning of a run of 10 requests, one after another."""
    plain = {
        "input_tokens": 1000, "output_tokens": 1000, "requests": 10, "concurrency": 1, "rate": 0.0,
        "least_ratio": 0.0, "images": 0, "rounds": 0, "seed": 1, "api": "http completions", "model": "kimi",
        "version": "0.1.0", "started": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return Began(run=run, scale=scale, format=FORMAT, label=label, scenario=scenario, **(plain | fields))


def request(start=0.0, ttft=0.1, latency=1.0, gaps=(), tokens=10, prompt=20, **fields) -> Request:
    """A whole answer, unless `fields` have an error."""
    own = {"run": "chat-1-a", "scale": 1.0, "session": 0, "turn": 0} | fields
    return Request(
        start_s=start, ttft_s=ttft, latency_s=latency, gaps_s=list(gaps), prompt_tokens=prompt,
        output_tokens=tokens, **own,
    )  # fmt: skip


def run(answers=(), /, seconds=2.0, **fields) -> Run:
    """A run of some requests."""
    return Run(began(**fields), list(answers), seconds)
