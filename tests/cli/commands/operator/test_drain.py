from __future__ import annotations

import pytest

from services.cli.main import main

PREFILL_AT = "10.0.0.2:50052"


def test_a_drain_says_what_is_outstanding_and_does_not_wait(door, capsys):
    assert main(["drain", "prefill", "--address", door.address]) == 0
    assert door.drained == [PREFILL_AT]
    assert capsys.readouterr().out.splitlines() == [
        f"prefill {PREFILL_AT} admits no new requests; 2 requests outstanding",
        f"`perigee undrain {PREFILL_AT}` puts it back into rotation",
    ]


def test_force_is_passed_on(door):
    assert main(["drain", "prefill", "--force", "--address", door.address]) == 0
    assert (door.drained, door.forced) == ([], [PREFILL_AT])


def test_an_undrained_worker_is_named(door, capsys):
    assert main(["undrain", "prefill", "--address", door.address]) == 0
    assert door.undrained == [PREFILL_AT]
    assert capsys.readouterr().out == f"prefill {PREFILL_AT} admits requests\n"


def test_waiting_ends_when_the_drained_worker_has_nothing_left(door, capsys):
    def later(count):
        load = door.workers[1].load
        # The first reports are older than the drain: what they do not show may still be there.
        load.draining = count > 2
        load.running = int(count == 3)

    door.on_list = later
    assert main(["drain", PREFILL_AT, "--wait-seconds", "10", "--address", door.address]) == 0
    assert door.lists == 4
    assert "all requests finished after" in capsys.readouterr().out


@pytest.mark.parametrize(
    "leave",
    [
        lambda door: door.workers.pop(1),
        lambda door: setattr(door.workers[1], "reachable", False),
        lambda door: setattr(door.workers[1].info, "incarnation", "prefill-new"),
    ],
    ids=["not listed", "unreachable", "replaced"],
)
def test_a_worker_that_is_gone_or_replaced_is_waited_for_no_longer(door, capsys, leave):
    door.on_list = lambda count: leave(door) if count == 2 else None
    assert main(["drain", PREFILL_AT, "--wait-seconds", "10", "--address", door.address]) == 0
    assert "gone after" in capsys.readouterr().out


def test_a_wait_that_was_too_short_fails_and_counts_what_is_left(door, capsys):
    door.workers[1].load.draining = True
    door.workers[1].load.waiting = 1
    assert main(["drain", PREFILL_AT, "--wait-seconds", "0.3", "--address", door.address]) == 1
    assert f"prefill {PREFILL_AT}: 1 request left after 0.3 s" in capsys.readouterr().err


def test_an_unknown_worker_is_not_drained(door, capsys):
    assert main(["drain", "10.0.0.7:1", "--address", door.address]) == 1
    assert "'10.0.0.7:1' matches no worker" in capsys.readouterr().err
    assert door.drained == []


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf"])
def test_a_wait_that_has_no_end_is_a_wrong_argument(door, capsys, seconds):
    assert main(["drain", PREFILL_AT, f"--wait-seconds={seconds}", "--address", door.address]) == 2
    assert "--wait-seconds" in capsys.readouterr().err
    assert door.drained == []
