from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

# A stand-in for the worker itself: everything around it is real.
PROGRAM = """
import sys, types
role = sys.argv[1] if sys.argv[1:2] == ["gateway"] else "prefill"
stand_in = types.ModuleType(f"services.{{role}}.main")

async def serve(config, endpoints, stop):
    print("port", config.port if role == "prefill" else config.http_port, flush=True)
    await stop.wait()
    {after}

stand_in.serve = serve
sys.modules[f"services.{{role}}.main"] = stand_in
from services.cli.main import main
sys.exit(main(sys.argv[1:] if role == "gateway" else ["prefill", "--port", "0", *sys.argv[1:]]))
"""


@pytest.fixture
def start():
    started = []

    def start(after="pass", *arguments):
        command = [sys.executable, "-c", PROGRAM.format(after=after), *arguments]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_service_finish(start, number):
    process = start("print('drained', flush=True)")
    assert process.stdout.readline() == "port 0\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert out == "drained\n"
    assert process.returncode == 0


def test_a_second_signal_does_not_wait(start):
    process = start("print('draining', flush=True); import asyncio; await asyncio.Event().wait()")
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "draining\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM


def test_the_configuration_is_logged_once_as_a_line_for_machines(start):
    process = start()
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    (line,) = [json.loads(line) for line in err.splitlines()]
    assert (line["event"], line["role"], line["port"]) == ("configuration", "prefill", 0)


def test_an_error_of_the_service_is_one_line_and_a_status(start):
    process = start("from services.common.errors import CheckpointError; raise CheckpointError('no weights')")
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert err.splitlines()[-1] == "perigee prefill: no weights"
    assert process.returncode == 2


def test_an_unknown_log_level_is_named(start):
    process = start("pass", "--log-level", "LOUD")
    _, err = process.communicate(timeout=20)
    assert "log_level" in err
    assert process.returncode == 2


def test_an_address_that_others_reach_is_refused_at_once_with_what_to_do(start):
    _, err = start("pass", "--host", "0.0.0.0").communicate(timeout=20)
    assert err.splitlines()[-1].startswith(
        "perigee prefill: host: other machines reach 0.0.0.0, and there is no certificate: give one with"
        " --tls-dir (PERIGEE_TLS_DIR)"
    )
    assert "--insecure" in err


def test_insecure_is_logged(start):
    process = start("pass", "--host", "0.0.0.0", "--insecure")
    assert process.stdout.readline() == "port 0\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    lines = [json.loads(line) for line in err.splitlines()]
    (said,) = [line for line in lines if line["event"].startswith("insecure")]
    assert (said["level"], said["ports_for"]) == ("warning", "services")


@pytest.mark.parametrize(
    ("more", "warns"),
    [
        ((), False),
        (("--host", "0.0.0.0", "--insecure"), True),
        (("--host", "0.0.0.0", "--insecure", "--api-keys", "keys.json"), False),
    ],
)
def test_a_gateway_that_others_reach_without_a_key_warns(start, more, warns):
    process = start("pass", "gateway", "--http-port", "0", *more)
    assert process.stdout.readline() == "port 0\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    warned = [line for line in map(json.loads, err.splitlines()) if line["event"].startswith("no API keys")]
    assert bool(warned) == warns


def test_a_certificate_that_is_of_no_use_ends_the_start_before_anything_is_loaded(start, tmp_path):
    process = start("pass", "--tls-dir", str(tmp_path))
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (2, "")
    assert f"{tmp_path}/tls.crt cannot be read" in err
