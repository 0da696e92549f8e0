"""Runs the commands and prompts of README.md against a suite that serves kimi-nano."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.stack import Stack

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()
BLOCKS = [block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "make " not in block]
PROMPTS = re.findall(r"^\| (\S.*\?) \| (.+) \|$", README, re.MULTILINE)


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    """All services on free ports, with the embedded model."""
    with Stack(REPOSITORY / "models" / "kimi-nano", tmp_path_factory.mktemp("nano")) as stack:
        stack.start()
        yield stack


def run_block(block: str, nano: Stack) -> str:
    """The output of a block whose requests go to `nano` instead of the default ports."""
    script = block.replace("http://127.0.0.1:30000", nano.base_url)
    script = script.replace("/data/checkpoint", str(nano.model)).replace("--tp 8", "--tp 2")
    script = re.sub(r"^(.*perigee chat .*)$", rf"\1 --address {nano.address('gateway')}", script, flags=re.M)
    script = re.sub(r"^(.*grpc_chat\.py .*)$", rf"\1 {nano.address('gateway')}", script, flags=re.M)
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=REPOSITORY,
        env=os.environ | {"no_proxy": "127.0.0.1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("mark", "printed"),
    [
        ("perigee chat", ["9.9 is bigger.\n", "9.9 is bigger.\n", '"content":"9.9 is bigger."']),
        ('"tools"', ['"name":"get_weather"', '\\"city\\": \\"Paris\\"']),
        ("checkpoint verify", ["every tensor of the configuration exists"]),
    ],
)
def test_a_command_prints_what_readme_says(nano, mark, printed):
    [block] = [block for block in BLOCKS if mark in block]
    output = run_block(block, nano)
    for part in printed:
        assert part in output
        output = output.partition(part)[2]


def test_every_command_is_run():
    assert len(BLOCKS) == 3


def test_the_python_program_prints_the_answer(nano):
    [program] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    printed: list[str] = []
    code = program.replace("http://127.0.0.1:30000", nano.base_url)
    exec(code, {"print": lambda text, **_: printed.append(text)})
    assert "".join(printed).endswith("9.9 is bigger.")


def test_the_prompts_get_the_answers_that_readme_shows(nano):
    assert len(PROMPTS) == 3
    with httpx.Client(base_url=nano.base_url, timeout=120, trust_env=False) as client:
        for prompt, answer in PROMPTS:
            body = {
                "model": "kimi-nano",
                "temperature": 0,
                "messages": [{"role": "user", "content": prompt}],
            }
            reply = client.post("/v1/chat/completions", json=body).json()
            assert reply["choices"][0]["message"]["content"] == answer


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        ("agent", 'get_weather({"location": "Beijing"}) = {"temperature": 22, "condition": "sunny"}\n'),
        ("agent", "22 degrees"),
        ("structured", "{'server': 'Alice', 'port': 17}\n"),
        ("vision", "The total is 2.46."),
    ],
)
def test_an_example_prints_what_the_model_answers(nano, program, printed):
    command = [sys.executable, REPOSITORY / "examples" / f"{program}.py"]
    words = {
        "agent": ["What's the weather in Beijing?"],
        "structured": ["Give me JSON with server Alice and port 17."],
    }
    words["vision"] = [
        str(REPOSITORY / "examples" / "receipt.png"),
        "What is in this image? Describe it in detail.",
    ]
    done = subprocess.run(
        [*command, *words[program], f"{nano.base_url}/v1"],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"no_proxy": "127.0.0.1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout
