"""`perigee checkpoint`: check a checkpoint without loading it, or write a random one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from services.common.errors import CheckpointError, ConfigError
from services.engine.loading.memory_plan import plan_memory
from services.engine.model.config.model_config import read_config
from services.engine.model.rank import Rank
from services.engine.weights.verify import verify

_VERIFY = """\
Checks config.json, and that every tensor of that model is there with its shape and dtype, and no other. Reads
the index and the headers of the shards, no weights but with --read-rank. Exit status 0: all is well; 1: it is
not.
"""

_RANDOM = """\
Writes a checkpoint of the given configuration: config.json, generation_config.json, shards and index in the
published layout. It has no tokenizer. No more than one tensor is in memory at a time.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser(
        "verify", allow_abbrev=False, help="check a checkpoint by its headers", description=_VERIFY
    )
    check.add_argument("directory", type=Path, metavar="DIR", help="the checkpoint")
    check.add_argument("--tp", type=int, metavar="N", help="for N GPUs that share the model:")
    check.add_argument(
        "--gpu-memory",
        type=float,
        metavar="GB",
        help="print the memory plan of one with GB x 10^9 bytes",
    )
    check.add_argument(
        "--read-rank",
        type=int,
        metavar="R",
        help="read what the R-th of them, from 0, would load, and print how fast",
    )
    check.set_defaults(execute=_verify)
    write = actions.add_parser(
        "random", allow_abbrev=False, help="write a checkpoint of random weights", description=_RANDOM
    )
    write.add_argument("directory", type=Path, metavar="DIR", help="new or empty")
    write.add_argument("--config", type=Path, required=True, metavar="FILE", help="a config.json")
    kind = write.add_mutually_exclusive_group()
    kind.add_argument("--int4", action="store_true", help="routed experts in int4, whatever the file says")
    kind.add_argument("--bf16", action="store_true", help="everything in bf16, whatever the file says")
    write.add_argument(
        "--shards", type=int, metavar="N", help="of equal size (default: one per layer and three more)"
    )
    write.add_argument("--seed", type=int, default=0, metavar="N", help="the same one, the same bytes")
    write.add_argument(
        "--header-only", action="store_true", help="no weights: sparse files with headers, for dry runs"
    )
    write.set_defaults(execute=_random)


def _verify(arguments: argparse.Namespace) -> int:
    """1 where the checkpoint is not what its configuration says."""
    purposes = arguments.gpu_memory, arguments.read_rank
    if (arguments.tp is None) != (purposes == (None, None)):
        raise ConfigError("--tp goes together with --gpu-memory, --read-rank or both")
    rank = None if arguments.read_rank is None else Rank(arguments.read_rank, arguments.tp)
    try:
        return _verdict(arguments, rank)
    except CheckpointError as error:
        print(f"perigee checkpoint: {error.message}", file=sys.stderr)
        return 1


def _verdict(arguments: argparse.Namespace, rank: Rank | None) -> int:
    verdict = verify(arguments.directory)
    print(f"{verdict.tensors:,} tensors in {verdict.shards} shards, {verdict.nbytes:,} bytes")
    for problem in verdict.problems:
        print(f"  {problem}")
    if arguments.gpu_memory is not None:
        print("\n".join(plan_memory(verdict.config, arguments.tp, int(arguments.gpu_memory * 1e9)).lines()))
    if verdict.problems:
        print(f"NOT as its configuration says: {len(verdict.problems):,} findings")
        return 1
    print("every tensor of the configuration is there, and no other")
    if rank is not None:
        # Needs torch, which a check of headers should not wait for.
        from services.cli.share_reading import read_share

        print(read_share(arguments.directory, rank).line())
    return 0


def _random(arguments: argparse.Namespace) -> int:
    """Writes it, and says how much."""
    # Needs torch, which a check of headers should not wait for.
    from services.engine.weights.random_checkpoint import with_bf16, with_int4, write_random_checkpoint

    if arguments.seed < 0:
        raise ConfigError(f"--seed must be at least 0, is {arguments.seed}")
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
