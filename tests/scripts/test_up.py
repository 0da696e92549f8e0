"""`make up`, with a compose tool that only notes what it is asked."""

from __future__ import annotations

import os
import subprocess

import pytest

COMPOSE = """#!/bin/sh
echo "$@" | head -1 >>"$NOTES/asked"
case "$1" in
exec) [ "$(grep -c ^exec "$NOTES/asked")" -ge "$READY_AT" ] && echo http ;;
port) echo 0.0.0.0:3$3 ;;
logs) echo "a line of a log" ;;
esac
"""


@pytest.fixture
def up(tmp_path, repository):
    """Runs the script; the gateway is ready when it is asked for the `ready_at`th time."""
    tool = tmp_path / "compose"
    tool.write_text(COMPOSE)
    tool.chmod(0o755)

    def run(*arguments, ready_at=1, seconds=60):
        settings = {"COMPOSE": str(tool), "NOTES": str(tmp_path), "READY_AT": str(ready_at)}
        return subprocess.run(
            [repository / "scripts" / "up", *arguments],
            env=os.environ | settings | {"READY_SECONDS": str(seconds)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    run.asked = lambda: (tmp_path / "asked").read_text().splitlines()
    return run


def test_it_returns_when_the_gateway_is_ready_and_says_how_to_talk_to_it(up):
    done = up("--scale", "decode=2", ready_at=2)
    assert done.returncode == 0, done.stderr
    assert up.asked()[0] == "up --build --detach --scale decode=2"
    asked = [line.split()[0] for line in up.asked()]
    assert asked.index("port") > len(asked) - 1 - asked[::-1].index("exec")
    assert "\n  REST      http://127.0.0.1:330000/v1\n" in done.stdout
    assert "\n  gRPC      127.0.0.1:350050\n" in done.stdout
    assert 'exec gateway perigee chat "Hello"' in done.stdout


def test_a_suite_that_never_gets_ready_shows_its_logs_and_fails(up):
    done = up(ready_at=99, seconds=0)
    assert done.returncode == 1
    assert "a line of a log" in done.stdout
    assert "not ready after 0 s" in done.stderr
    assert "Perigee is ready" not in done.stdout
