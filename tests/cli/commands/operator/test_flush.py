from __future__ import annotations

from services.cli.main import main


def test_a_flush_says_what_each_worker_dropped(door, capsys):
    assert main(["flush", "--address", door.address]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "vision 10.0.0.1:50051 dropped 10 pages of 1 embeddings",
        "prefill 10.0.0.2:50052 dropped 11 pages",
        "decode 10.0.0.3:50053 dropped 12 pages",
    ]


def test_a_flush_that_misses_a_worker_fails_and_says_why(door, capsys):
    door.flush_errors["10.0.0.2:50052"] = "connection refused"
    assert main(["flush", "--address", door.address]) == 1
    printed = capsys.readouterr()
    assert printed.err == "prefill 10.0.0.2:50052 FAILED: connection refused\n"
    assert len(printed.out.splitlines()) == 2


def test_a_flush_without_workers_fails(door, capsys):
    door.workers.clear()
    assert main(["flush", "--address", door.address]) == 1
    assert "no worker" in capsys.readouterr().err
