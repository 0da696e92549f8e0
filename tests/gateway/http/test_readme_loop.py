"""The loop that README shows prints an answer whole, however its tokens come together."""

import asyncio
import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[3] / "README.md"


def readme_loop(port):
    """The code, for a gateway at this port."""
    [code] = [
        block
        for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
        if "from openai import OpenAI" in block
    ]
    assert "127.0.0.1:30000" in code
    return code.replace("127.0.0.1:30000", f"127.0.0.1:{port}").replace('"kimi-nano"', '"kimi"')


@pytest.mark.parametrize("tokens_per_delta", [1, 2, 5, 1000])
async def test_the_loop_prints_reasoning_and_content_of_any_burst(suite, tokens_per_delta):
    suite.say("Thinking about it.</think>Hello there!")
    suite.decode.tokens_per_delta = tokens_per_delta
    printed = []

    def note(text, *, end, flush):
        printed.append(text)

    await asyncio.to_thread(exec, readme_loop(suite.gateway.http_port), {"print": note})
    assert "".join(printed) == "Thinking about it.Hello there!"
