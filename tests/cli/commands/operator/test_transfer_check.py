from __future__ import annotations

import pytest

from services.cli.main import main
from services.common.errors import TransferFailed
from tests.cli.gateway_double import PREFILL, VISION, worker

VISION_AT, PREFILL_AT, DECODE_AT = "10.0.0.1:50051", "10.0.0.2:50052", "10.0.0.3:50053"


def asked(door):
    return [(check.reader, check.owner, check.rounds) for check in door.checks]


def test_both_directions_are_checked_and_told(door, capsys):
    assert main(["transfer-check", PREFILL_AT, DECODE_AT, "--rounds", "5", "--address", door.address]) == 0
    assert asked(door) == [(PREFILL_AT, DECODE_AT, 5), (DECODE_AT, PREFILL_AT, 5)]
    assert (
        capsys.readouterr().out
        == """\
prefill 10.0.0.2:50052 reads from decode 10.0.0.3:50053
  transport  cma
  RDMA       no: the CPUs move the bytes (cma)
  speed      9.54 GB/s, best of 5 rounds
  read       5,242,880 bytes in 0.25 s, checksums included
  checksum   ok in every round: 0000abcd
decode 10.0.0.3:50053 reads from prefill 10.0.0.2:50052
  transport  cma
  RDMA       no: the CPUs move the bytes (cma)
  speed      9.54 GB/s, best of 5 rounds
  read       5,242,880 bytes in 0.25 s, checksums included
  checksum   ok in every round: 0000abcd
"""
    )


def test_an_rdma_path_is_said_to_be_one(door, capsys):
    door.rdma = True
    assert main(["transfer-check", PREFILL_AT, DECODE_AT, "--address", door.address]) == 0
    out = capsys.readouterr().out
    assert out.count("RDMA       yes") == 2
    assert "the CPUs move the bytes" not in out


def test_where_rdma_is_expected_tcp_is_a_failure_of_each_direction(door, capsys):
    command = ["transfer-check", PREFILL_AT, DECODE_AT, "--expect", "rdma", "--address", door.address]
    assert main(command) == 1
    assert capsys.readouterr().out.count("  FAILED     RDMA is expected, and cma is none") == 2
    door.rdma = True
    assert main(command) == 0
    assert "FAILED" not in capsys.readouterr().out


def test_every_worker_of_a_role_is_checked_with_every_one_of_another(door):
    door.workers.append(worker(PREFILL, "10.0.0.9:50052", "d4d4d4d4"))
    assert main(["transfer-check", "prefill", "decode", "--every", "--address", door.address]) == 0
    both = {(PREFILL_AT, DECODE_AT), ("10.0.0.9:50052", DECODE_AT)}
    assert {pair[:2] for pair in asked(door)} == both | {(owner, reader) for reader, owner in both}


@pytest.mark.parametrize("names", [(VISION_AT, DECODE_AT), (DECODE_AT, VISION_AT)])
def test_a_vision_worker_is_only_read(door, names):
    assert main(["transfer-check", *names, "--address", door.address]) == 0
    assert asked(door) == [(DECODE_AT, VISION_AT, 64)]


def test_a_direction_that_fails_is_the_exit_status_and_the_other_is_still_checked(door, capsys):
    door.fails[PREFILL_AT, DECODE_AT] = TransferFailed(f"reader {PREFILL_AT}: worker {DECODE_AT}: late")
    assert main(["transfer-check", PREFILL_AT, DECODE_AT, "--address", door.address]) == 1
    out = capsys.readouterr().out
    assert f"  FAILED     reader {PREFILL_AT}: worker {DECODE_AT}: late" in out
    assert out.count("checksum   ok") == 1


def test_workers_may_be_named_by_the_beginning_of_their_incarnation(door):
    assert main(["transfer-check", "prefill-b2b2", "decode", "--address", door.address]) == 0
    assert asked(door)[0][:2] == (PREFILL_AT, DECODE_AT)


def test_a_name_that_fits_nobody_lists_who_is_there(door, capsys):
    assert main(["transfer-check", "nobody", DECODE_AT, "--address", door.address]) == 1
    error = capsys.readouterr().err
    assert "'nobody' matches no worker" in error
    assert f"vision {VISION_AT}, prefill {PREFILL_AT}, decode {DECODE_AT}" in error


def test_a_name_that_fits_several_lists_them(door, capsys):
    door.workers.append(worker(VISION, "10.0.0.9:1", "a1a1ffff"))
    assert main(["transfer-check", "vision-a1a1", DECODE_AT, "--address", door.address]) == 1
    error = capsys.readouterr().err
    assert "'vision-a1a1' matches several workers" in error
    assert "10.0.0.9:1" in error
    assert DECODE_AT not in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([DECODE_AT, "decode-c3"], "name two workers"),
        ([VISION_AT, "10.0.0.9:1"], "both are vision workers"),
        ([PREFILL_AT, DECODE_AT, "--rounds", "0"], "--rounds"),
        ([PREFILL_AT, DECODE_AT, "--rounds", "4097"], "--rounds"),
    ],
)
def test_what_cannot_be_checked_is_a_wrong_argument(door, capsys, arguments, says):
    door.workers.append(worker(VISION, "10.0.0.9:1", "d4d4d4d4"))
    assert main(["transfer-check", *arguments, "--address", door.address]) == 2
    assert says in capsys.readouterr().err
    assert door.checks == []
