"""A real browser, for pages and for what browsers allow them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
from collections.abc import AsyncIterator

import httpx
import pytest

_CHROMEDRIVER = shutil.which("chromedriver")

needs_browser = pytest.mark.skipif(
    _CHROMEDRIVER is None, reason="chromedriver (Debian: chromium-driver) is not installed"
)


class Browser:
    """A headless Chromium, by the WebDriver protocol."""

    def __init__(self, session: httpx.AsyncClient) -> None:
        self._session = session

    async def go(self, url: str) -> None:
        (await self._session.post("/url", json={"url": url})).raise_for_status()

    async def run(self, script: str) -> object:
        """The value that `script`, a function's body, returns in the page."""
        answer = await self._session.post("/execute/sync", json={"script": script, "args": []})
        answer.raise_for_status()
        return answer.json()["value"]

    async def resolve(self, expression: str) -> object:
        """What the promise that `expression` makes in the page resolves to; its error as a text."""
        script = f"const [done] = arguments; Promise.resolve({expression}).then(done, e => done(String(e)))"
        answer = await self._session.post("/execute/async", json={"script": script, "args": []})
        answer.raise_for_status()
        return answer.json()["value"]

    async def ask(self, question: str) -> None:
        await self.run(
            f'document.getElementById("text").value = {json.dumps(question)};'
            'document.getElementById("form").requestSubmit()'
        )

    async def until(self, expression: str) -> None:
        """Returns when `expression` is true in the page; fails after 20 s with the page's text."""
        script = """
            const [done] = arguments, until = performance.now() + 20000;
            const look = () => (EXPRESSION) ? done("") : performance.now() > until
                ? done(document.body.innerText) : setTimeout(look, 20);
            look();"""
        body = {"script": script.replace("EXPRESSION", expression), "args": []}
        answer = await self._session.post("/execute/async", json=body)
        answer.raise_for_status()
        assert answer.json()["value"] == "", expression


@contextlib.asynccontextmanager
async def open_browser(*arguments: str) -> AsyncIterator[Browser]:
    """A browser for the length of the block; `arguments`: more of Chromium's."""
    assert _CHROMEDRIVER is not None
    driver = await asyncio.create_subprocess_exec(_CHROMEDRIVER, "--port=0", stdout=asyncio.subprocess.PIPE)
    try:
        assert driver.stdout is not None
        port = None
        while port is None:
            line = (await driver.stdout.readline()).decode()
            assert line, "chromedriver ended"
            port = next(iter(re.findall(r"started.*port (\d+)", line)), None)
        common = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options = {"goog:chromeOptions": {"args": [*common, *arguments]}, "timeouts": {"script": 30_000}}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            made = await client.post("/session", json={"capabilities": {"alwaysMatch": options}})
            made.raise_for_status()
            session = f"/session/{made.json()['value']['sessionId']}"
            try:
                async with httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}{session}", timeout=60
                ) as session_client:
                    yield Browser(session_client)
            finally:
                # Chromium outlives the driver otherwise, and holds the pipe whose end `wait` awaits.
                await client.delete(session)
    finally:
        driver.terminate()
        await driver.wait()
