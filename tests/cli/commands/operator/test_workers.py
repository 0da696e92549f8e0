from __future__ import annotations

import json
import socket

from services.cli.main import main
from tests.cli.gateway_double import DECODE, PREFILL, worker

TABLE = """\
ROLE     ADDRESS         STATE    TLS  INCARNATION        PID  VERSION  TRANSPORT     RUNNING  WAITING  QUEUED    PAGES
vision   10.0.0.1:50051  serving  off  vision-a1a1a1a1   1234  0.1.0    cma 9.5 GB/s        0        0       0  510/512
prefill  10.0.0.2:50052  serving  off  prefill-b2b2b2b2  1234  0.1.0    cma 9.5 GB/s        3        4   12000  510/512
decode   10.0.0.3:50053  serving  off  decode-c3c3c3c3   1234  0.1.0    cma 9.5 GB/s        0        0       0  510/512
"""  # noqa: E501


def test_workers_are_an_aligned_table(door, capsys):
    door.workers[1] = worker(PREFILL, "10.0.0.2:50052", "b2b2b2b2", running=3, waiting=4, queued_tokens=12000)
    assert main(["workers", "--address", door.address]) == 0
    assert capsys.readouterr().out == TABLE
    assert max(len(line) for line in TABLE.splitlines()) <= 120


def test_states_tell_draining_leaving_and_unreachable_apart(door, capsys):
    door.workers[0].ClearField("load")
    door.workers[0].load.draining = True
    door.workers[1].discovered = False
    assert main(["workers", "--address", door.address]) == 0
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()[1:]] == [
        "draining",
        "leaving",
        "serving",
    ]


def test_an_unreachable_worker_is_shown_as_such_and_is_the_exit_status(door, capsys):
    gone = worker(DECODE, "10.0.0.3:50053", "")
    for field in ("reachable", "load"):
        gone.ClearField(field)
    door.workers[2] = gone
    assert main(["workers", "--address", door.address]) == 1
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert last == ["decode", "10.0.0.3:50053", "unreachable", "off", *["-"] * 8]


def test_no_workers_at_all_is_a_failure(door, capsys):
    door.workers = []
    assert main(["workers", "--address", door.address]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_rdma_is_marked(door, capsys):
    door.workers[1].info.transport.rdma = True
    door.workers[1].info.transport.transport = "rc_mlx5"
    main(["workers", "--address", door.address])
    assert [line.count("rdma") for line in capsys.readouterr().out.splitlines()] == [0, 0, 1, 0]


def test_json_is_the_protobuf_with_its_zeros(door, capsys):
    assert main(["workers", "--json", "--address", door.address]) == 0
    workers = json.loads(capsys.readouterr().out)["workers"]
    assert [each["info"]["role"].split("_")[-1] for each in workers] == ["VISION", "PREFILL", "DECODE"]
    assert workers[0]["info"]["incarnation"] == "vision-" + "a1" * 16
    assert workers[0]["load"]["running"] == 0
    assert workers[0]["load"]["draining"] is False


def test_json_of_an_unreachable_worker_has_the_same_exit_status(door, capsys):
    door.workers[0].reachable = False
    assert main(["workers", "--json", "--address", door.address]) == 1
    assert json.loads(capsys.readouterr().out)["workers"][0]["reachable"] is False


def test_nobody_listening_is_said_at_once_with_what_to_do(capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert main(["workers", "--address", address]) == 1
    assert f"perigee workers: nothing answers at {address}" in capsys.readouterr().err
