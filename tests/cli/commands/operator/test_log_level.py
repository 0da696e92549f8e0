"""`perigee log-level` changes what running services log."""

from __future__ import annotations

from services.cli.main import main


def test_every_service_that_logs_otherwise_is_named(door, capsys):
    assert main(["log-level", "debug", "--address", door.address]) == 0
    assert door.levels == [("debug", "")]
    assert capsys.readouterr().out.splitlines() == [
        "gateway logs at DEBUG",
        "10.0.0.1:50051 logs at DEBUG",
        "10.0.0.2:50052 logs at DEBUG",
        "10.0.0.3:50053 logs at DEBUG",
    ]


def test_one_service_is_meant_by_address_by_incarnation_or_as_the_gateway(door):
    for service in ("10.0.0.2:50052", "prefill-b2b2", "gateway"):
        assert main(["log-level", "INFO", service, "--address", door.address]) == 0
    assert door.levels == [("INFO", "10.0.0.2:50052")] * 2 + [("INFO", "gateway")]


def test_a_service_that_does_not_change_fails_the_command_and_says_why(door, capsys):
    door.level_errors["10.0.0.2:50052"] = "connection refused"
    assert main(["log-level", "INFO", "--address", door.address]) == 1
    printed = capsys.readouterr()
    assert printed.err == "10.0.0.2:50052 FAILED: connection refused\n"
    assert len(printed.out.splitlines()) == 3
