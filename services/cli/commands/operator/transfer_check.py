"""`perigee transfer-check`: checks that two workers can read each other's memory, and by which path."""

from __future__ import annotations

import argparse
from itertools import product
from typing import TypeAlias

from perigee.v1 import admin_pb2, worker_pb2
from services.cli.connection.admin_client import AdminClient, describe
from services.cli.connection.gateway_address import add_operator_flags, connected
from services.common.errors import ConfigError, PerigeeError

_MAX_ROUNDS = 4096
_VISION = worker_pb2.WORKER_ROLE_VISION

Pair: TypeAlias = tuple[admin_pb2.WorkerStatus, admin_pb2.WorkerStatus]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Makes each of two workers read the other's 1 MiB test buffer repeatedly, beside normal traffic. "
        "Vision workers are only read from. Every round's checksum is verified. Exit status 0: every "
        "direction works, and by RDMA if that is expected; 1: one does not."
    )
    for name in ("a", "b"):
        parser.add_argument(
            name, metavar=name.upper(), help="a worker: its address or the start of its incarnation"
        )
    parser.add_argument(
        "--rounds",
        type=int,
        default=64,
        metavar="N",
        help=f"reads per direction, 1 to {_MAX_ROUNDS} (default: 64)",
    )
    parser.add_argument(
        "--every",
        action="store_true",
        help="names may match several workers: check each of A with each of B",
    )
    parser.add_argument(
        "--expect",
        choices=["any", "rdma"],
        default="any",
        help="rdma: a path on which CPUs move the bytes, such as TCP, is a failure (default: any)",
    )
    add_operator_flags(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Returns 1 if a direction fails."""
    if not 1 <= arguments.rounds <= _MAX_ROUNDS:
        raise ConfigError(f"--rounds must be from 1 to {_MAX_ROUNDS}, is {arguments.rounds}")
    with connected(arguments) as channel:
        client = AdminClient(channel)
        pairs = _pairs(client, arguments)
        rdma = arguments.expect == "rdma"
        works = [_check(client, reader, owner, arguments.rounds, rdma=rdma) for reader, owner in pairs]
    return 0 if all(works) else 1


def _pairs(client: AdminClient, arguments: argparse.Namespace) -> list[Pair]:
    """Returns each reader with the owner that it reads from. Raises ConfigError if there is none."""
    find = client.find_all if arguments.every else lambda name: [client.find(name)]
    found = list(product(find(arguments.a), find(arguments.b)))
    two = [(one, other) for one, other in found if one.address != other.address]
    if not two:
        raise ConfigError(f"both names match {describe(found[0][0])}: name two workers")
    pairs = [pair for one, other in two for pair in ((one, other), (other, one))]
    reading = [pair for pair in pairs if pair[0].info.role != _VISION]
    if not reading:
        raise ConfigError("both are vision workers, which never read: name another reader")
    return reading


def _check(
    client: AdminClient,
    reader: admin_pb2.WorkerStatus,
    owner: admin_pb2.WorkerStatus,
    rounds: int,
    *,
    rdma: bool,
) -> bool:
    """Checks one direction and prints the result; returns whether it works, with `rdma` by RDMA."""
    print(f"{describe(reader)} reads from {describe(owner)}", flush=True)
    try:
        answer = client.check_transfer(reader.address, owner.address, rounds)
    except PerigeeError as error:
        print(f"  FAILED     {error.message}")
        return False
    path = answer.transport
    print(f"  transport  {path.transport}")
    print(f"  RDMA       {_rdma(path)}")
    print(f"  speed      {path.gigabytes_per_second:.2f} GB/s, best of {rounds} rounds")
    print(f"  read       {answer.bytes:,} bytes in {answer.seconds:.2f} s, checksums included")
    print(f"  checksum   ok in every round: {answer.crc32:08x}", flush=True)
    if rdma and not path.rdma:
        print(f"  FAILED     RDMA is expected, and {path.transport} is none: see UCX_TLS and UCX_NET_DEVICES")
        return False
    return True


def _rdma(path: worker_pb2.TransportReport) -> str:
    if path.rdma:
        return f"yes: no CPU moves a byte ({path.transport})"
    return f"no: the CPUs move the bytes ({path.transport})"
