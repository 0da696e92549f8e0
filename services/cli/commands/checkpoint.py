"""`perigee checkpoint`: check a checkpoint without loading it, or write a random one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from services.cli.parser import check_range
from services.common.errors import CheckpointError, ConfigError
from services.common.model_types import read_config
from services.common.page_hash import PAGE_TOKENS
from services.common.setting_ranges import MOST_THREADS
from services.decode.config import DecodeConfig
from services.engine.loading.memory_plan import plan_memory
from services.engine.loading.worker_shape import WorkerShape
from services.engine.model.config.model_config import ModelConfig
from services.engine.model.rank import Rank
from services.engine.weights.verify import verify
from services.prefill.config import PrefillConfig

_VERIFY = """\
Checks config.json, and that exactly the tensors of that model exist, with their shapes and dtypes. Reads the
index and the headers of the shards; weights only with --read-rank. Exit status 0: no findings; 1: at least
one.

With --template only the checkpoint's chat_template.jinja: renders conversations with it, in a sandbox, and
compares the prompts with Perigee's under each model profile. Exit status 0: a profile fits; 1: none does.
"""

_RANDOM = """\
Writes a checkpoint of the given configuration: config.json, generation_config.json, shards and index in the
published layout, without a tokenizer. At most one tensor is in memory at a time.
"""

_MOST_GB = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser(
        "verify", allow_abbrev=False, help="check a checkpoint by its headers", description=_VERIFY
    )
    check.add_argument("directory", type=Path, metavar="DIR", help="the checkpoint")
    check.add_argument(
        "--tp", type=int, metavar="N", help="number of GPUs that share the model, for the next two options"
    )
    check.add_argument(
        "--gpu-memory",
        type=float,
        metavar="GB",
        help="print the memory plan of one GPU with GB x 10^9 bytes, and the KV pages of each role",
    )
    for flag, meaning in (
        ("--expert-parallel", "each GPU has some experts in full"),
        ("--dp-attention", "each GPU attends for some sequences with all heads"),
    ):
        check.add_argument(flag, action="store_true", help=f"with --tp: {meaning}")
    check.add_argument(
        "--read-rank",
        type=int,
        metavar="R",
        help="read the share that GPU R (from 0) would load, and print the speed",
    )
    check.add_argument(
        "--template",
        action="store_true",
        help="compare the checkpoint's chat template with the model profiles, and check nothing else",
    )
    check.set_defaults(execute=_verify)
    write = actions.add_parser(
        "random", allow_abbrev=False, help="write a checkpoint of random weights", description=_RANDOM
    )
    write.add_argument("directory", type=Path, metavar="DIR", help="a new or empty directory")
    write.add_argument("--config", type=Path, required=True, metavar="FILE", help="a config.json")
    kind = write.add_mutually_exclusive_group()
    kind.add_argument("--int4", action="store_true", help="write routed experts in int4, whatever FILE says")
    kind.add_argument("--bf16", action="store_true", help="write everything in bf16, whatever FILE says")
    write.add_argument(
        "--shards",
        type=int,
        metavar="N",
        help="number of shards, of equal size (default: one per layer and three more)",
    )
    write.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the weights; the same seed gives the same bytes",
    )
    write.add_argument(
        "--header-only",
        action="store_true",
        help="write sparse files with headers and no weights, for dry runs",
    )
    write.set_defaults(execute=_random)


def _verify(arguments: argparse.Namespace) -> int:
    """Returns 1 if the checkpoint contradicts its configuration, or its template every profile."""
    purposes = arguments.gpu_memory, arguments.read_rank
    if (arguments.tp is None) != (purposes == (None, None)):
        raise ConfigError("--tp goes together with --gpu-memory, --read-rank or both")
    check_range("--tp", arguments.tp, 1, MOST_THREADS)
    check_range("--gpu-memory", arguments.gpu_memory, 0.001, _MOST_GB)
    split = arguments.expert_parallel, arguments.dp_attention
    if any(split) and (arguments.tp or 1) < 2:
        raise ConfigError("--expert-parallel and --dp-attention apply to several GPUs: set --tp above 1")
    rank = None if arguments.read_rank is None else Rank(arguments.read_rank, arguments.tp, *split)
    try:
        return _compare_template(arguments.directory) if arguments.template else _verdict(arguments, rank)
    except CheckpointError as error:
        print(f"perigee checkpoint: {error.message}", file=sys.stderr)
        return 1


def _verdict(arguments: argparse.Namespace, rank: Rank | None) -> int:
    verdict = verify(arguments.directory)
    print(f"{verdict.tensors:,} tensors in {verdict.shards} shards, {verdict.nbytes:,} bytes")
    for problem in verdict.problems:
        print(f"  {problem}")
    if arguments.gpu_memory is not None:
        print("\n".join(_plan_lines(arguments, verdict.config)))
    if verdict.problems:
        print(f"CONTRADICTS its configuration: {len(verdict.problems):,} findings")
        return 1
    print("every tensor of the configuration exists, and no other")
    if rank is not None:
        # Imported here, because it loads torch, for which a check of headers should not wait.
        from services.cli.share_reading import read_share

        print(read_share(arguments.directory, rank).line())
    return 0


def _plan_lines(arguments: argparse.Namespace, config: ModelConfig) -> list[str]:
    """The memory plan of a decode worker, and the pages that `kv_pages = auto` gives each role."""
    # Rank refuses what is no group.
    split = Rank(0, arguments.tp, arguments.expert_parallel, arguments.dp_attention)
    shapes = {
        "decode": WorkerShape(split, DecodeConfig().chunk_on("cuda"), DecodeConfig.max_running),
        "prefill": WorkerShape(split, PrefillConfig().chunk_on("cuda"), 0),
        "aggregated": WorkerShape(
            split, DecodeConfig(aggregated=True).chunk_on("cuda"), DecodeConfig.max_running
        ),
    }
    memory = int(arguments.gpu_memory * 1e9)
    try:
        plans = {role: plan_memory(config, shape, memory) for role, shape in shapes.items()}
    except ConfigError as error:
        raise ConfigError(f"--gpu-memory {arguments.gpu_memory:g}: {error.message}") from None
    lines = plans["decode"].lines()
    lines.append("kv_pages = auto:")
    for role, plan in plans.items():
        chunk = shapes[role].chunk_tokens
        lines.append(
            f"{plan.pages:>19,}  {role}: {plan.pages * PAGE_TOKENS:,} tokens, beside passes of {chunk:,}"
        )
    return lines


def _compare_template(directory: Path) -> int:
    # Imported here, because a worker's image lacks the gateway's dependencies.
    from services.cli.template_check.comparison import compare_template
    from services.cli.template_check.report import lines

    verdict = compare_template(directory)
    print("\n".join(lines(verdict)))
    return 0 if any(fit.fits for fit in verdict.fits) else 1


def _random(arguments: argparse.Namespace) -> int:
    """Writes the checkpoint and prints its size."""
    # Imported here, because it loads torch, for which a check of headers should not wait.
    from services.engine.weights.random_checkpoint import with_bf16, with_int4, write_random_checkpoint

    check_range("--seed", arguments.seed, 0, 2**63 - 1)
    values = read_config(arguments.config)
    if arguments.int4:
        values = with_int4(values)
    elif arguments.bf16:
        values = with_bf16(values)
    write_random_checkpoint(
        arguments.directory, values, arguments.seed, arguments.shards, arguments.header_only
    )
    verdict = verify(arguments.directory)
    print(f"{verdict.tensors:,} tensors in {verdict.shards} shards, {verdict.nbytes:,} bytes")
    return 0
