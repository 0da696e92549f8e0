"""`perigee bench`: measures an endpoint; `perigee bench report`: compares measurements."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from services.cli.bench.metrics import SLO_METRICS
from services.cli.bench.options import BenchOptions, parse_slo
from services.cli.bench.records import Run, read_runs
from services.cli.bench.workload.scenario import SCENARIOS
from services.cli.connection.gateway_address import SYSTEM_CA
from services.common.errors import ConfigError

REPORT = "report"
_DESCRIPTION = """\
perigee bench [SCENARIO ...]: measures an endpoint with OpenAI's API, or a Perigee gateway over gRPC, and
writes what happened to each request into a file, one JSON object per line.
perigee bench report FILE ...: tables, and with --pictures DIR pictures, of such files.

Scenarios: {names}
(default: all). The first nine are those of SGLang's cookbook for Kimi-K2.5: prompts and answers of up to 1000
or 8000 tokens, with the concurrency in the name. agent: conversations with tools, whose prompts have a median
of 64,000 tokens, 90 % of them cached. custom: made from --input-tokens, --output-tokens and --requests.

--scale multiplies all these lengths. It is part of each record; runs of different scales are never compared.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = _DESCRIPTION.format(names=", ".join(SCENARIOS))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("words", nargs="*", metavar="SCENARIO", help="or: report FILE ...")
    _add_target(parser)
    _add_load(parser)
    both = parser.add_argument_group("runs and reports")
    both.add_argument(
        "--slo",
        metavar="NAME=MS,…",
        default="",
        help=f"what a good request keeps to: {', '.join(SLO_METRICS)} in milliseconds, e.g. ttft=500,tpot=50",
    )
    both.add_argument("--json", action="store_true", help="print the figures as JSON, for programs")
    both.add_argument("--pictures", type=Path, metavar="DIR", help="draw PNG pictures into DIR (matplotlib)")
    parser.set_defaults(execute=execute)


def _add_target(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("endpoint")
    group.add_argument(
        "--target",
        metavar="URL",
        help="http[s]://HOST:PORT of an OpenAI-compatible API or grpc[s]://HOST:PORT of a Perigee gateway"
        " (default: http://127.0.0.1:30000); the key in PERIGEE_API_KEY or OPENAI_API_KEY is sent",
    )
    group.add_argument("--model", default="", help="served name (default: the first one listed)")
    group.add_argument("--chat", action="store_true", help="send chats, not token ids to be continued")
    group.add_argument(
        "--stop-early",
        action="store_true",
        help="let the model end its answers; by default ignore_eos and skip_special_tokens, which OpenAI's"
        " own API does not know, ask for answers of the full length",
    )
    group.add_argument("--extra", metavar="JSON", default="{}", help="more fields of each request")
    group.add_argument("--ca", metavar="FILE", help=f"CA of the server's certificate (default: {SYSTEM_CA})")
    group.add_argument(
        "--timeout-seconds", type=float, default=600.0, metavar="X", help="of an answer (default: 600)"
    )
    group.add_argument("--timeout", dest="timeout_seconds", type=float, help=argparse.SUPPRESS)
    group.add_argument(
        "--label", default="", help="what the endpoint is called in reports (default: its URL)"
    )
    group.add_argument(
        "--compare",
        choices=["aggregated"],
        help="start suites here, one after the other: separate pools, then as many workers that do both, with"
        " the same cores and KV pages, once for each of --chunks",
    )
    group.add_argument(
        "--checkpoint",
        type=Path,
        metavar="DIR",
        help="with --compare: what to serve (default: as perigee run)",
    )
    group.add_argument("--prefill", type=int, default=1, metavar="N", help="with --compare: prefill workers")
    group.add_argument("--decode", type=int, default=1, metavar="N", help="with --compare: decode workers")
    group.add_argument(
        "--kv-pages", type=int, default=1536, metavar="N", help="with --compare: of all workers together"
    )
    group.add_argument(
        "--chunks", default="64,128,256,512", metavar="N,…", help="with --compare: chunk sizes to try"
    )


def _add_load(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("load")
    group.add_argument("--scale", type=float, default=1.0, metavar="X", help="of all lengths (default: 1)")
    group.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="of the lengths and the pace (default: 1); what prompts say differs from run to run",
    )
    group.add_argument("--concurrency", type=int, metavar="N", help="most requests at once; 0: no limit")
    group.add_argument(
        "--rate", type=float, metavar="X", help="requests per second, Poisson; without a limit of concurrency"
    )
    group.add_argument("--requests", type=int, metavar="N", help="requests, or conversations of agent")
    group.add_argument("--input-tokens", type=int, default=1000, metavar="N", help="of custom's prompts")
    group.add_argument("--output-tokens", type=int, default=1000, metavar="N", help="of custom's answers")
    group.add_argument(
        "--range-ratio",
        type=float,
        default=0.0,
        metavar="X",
        help="least length, as a part of the greatest: 0: uniform from 1 token, 1: all as long (default: 0)",
    )
    group.add_argument(
        "--images", type=int, default=0, metavar="N", help="images in each prompt; implies --chat"
    )
    group.add_argument("--image-size", type=int, default=224, metavar="PIXELS", help="their width and height")
    group.add_argument("--name", default="", help="what the scenario is called; needed for two that differ")
    group.add_argument(
        "--out", type=Path, metavar="FILE", help="where records are appended (default: a new file)"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Measures or reports. Returns 1 if a request failed."""
    if arguments.words[:1] == [REPORT]:
        return _report(arguments, [Path(word) for word in arguments.words[1:]])
    from services.cli.bench.measuring import measure

    measured = measure(BenchOptions.of(arguments))
    runs = [run for run in read_runs([measured.path]) if run.began.run in measured.runs]
    return int(_show(runs, arguments, None))


def _report(arguments: argparse.Namespace, paths: list[Path]) -> int:
    if not paths:
        raise ConfigError("report: name at least one file that perigee bench wrote")
    _show(read_runs(paths), arguments, parse_slo(arguments.slo) if arguments.slo else None)
    return 0


def _show(runs: Sequence[Run], arguments: argparse.Namespace, slo_ms: dict[str, float] | None) -> bool:
    """Prints the figures of some runs and draws them if asked. Returns whether a request failed."""
    from services.cli.bench.report.comparison import compare
    from services.cli.bench.report.table import as_json, table

    comparison = compare(runs, slo_ms)
    print(json.dumps(as_json(comparison), indent=1) if arguments.json else "\n".join(table(comparison)))
    if arguments.pictures is not None:
        from services.cli.bench.report.pictures import draw

        for path in draw(comparison, arguments.pictures):
            print(path, file=sys.stderr)
    return any(request.error for run in runs for request in run.requests)
