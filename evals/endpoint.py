"""An HTTP client that sends many requests at once and retries when the server is busy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import httpx

ATTEMPTS = 5
BUSY = (429, 503)
LONGEST_WAIT_S = 10.0
TIMEOUT_S = 600.0

Item = TypeVar("Item")
Result = TypeVar("Result")


class Failed(Exception):
    """A request got no answer; the message gives the reason."""


class Endpoint:
    """Client of the server at `url`, which has no path."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        limits = httpx.Limits(max_connections=None)
        self._client = httpx.AsyncClient(
            base_url=url, timeout=TIMEOUT_S, transport=transport, limits=limits, trust_env=False
        )

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Sends `body` and returns the JSON object of the answer. Retries a busy server after the time in its
        Retry-After header. Raises Failed if the server refuses the request or the connection breaks.
        """
        response = await self._answer(path, body)
        try:
            answer = response.json()
        except ValueError as error:
            raise Failed(f"{path}: no JSON: {response.text[:100]}") from error
        if not isinstance(answer, dict):
            raise Failed(f"{path}: no JSON object: {response.text[:100]}")
        return answer

    async def events(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Like `post`, for an event stream: returns the JSON objects of its events, without the [DONE] that
        has to end it.
        """
        response = await self._answer(path, body)
        data = [
            line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: ")
        ]
        if not data or data.pop() != "[DONE]":
            raise Failed(f"{path}: the stream broke off: {response.text[-100:]}")
        return [json.loads(event) for event in data]

    async def get(self, path: str) -> dict[str, Any]:
        """Sends one GET request and returns the JSON object of the answer, without retries. Raises Failed."""
        try:
            response = await self._client.get(path)
            answer: dict[str, Any] = response.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise Failed(f"{path}: {error}") from error
        return answer

    async def _answer(self, path: str, body: dict[str, Any]) -> httpx.Response:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = await self._client.post(path, json=body)
            except httpx.HTTPError as error:
                raise Failed(f"{path}: {type(error).__name__} {error}".rstrip()) from error
            if response.status_code not in BUSY or attempt == ATTEMPTS:
                break
            await asyncio.sleep(_wait(response, attempt))
        if response.status_code != httpx.codes.OK:
            raise Failed(f"{path}: {response.status_code} {response.text[:300]}")
        return response

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.aclose()


async def at_once(
    items: Sequence[Item], limit: int, work: Callable[[Item], Awaitable[Result]]
) -> list[Result]:
    """Runs `work` on each item, at most `limit` at once; returns the results in the order of `items`."""
    free = asyncio.Semaphore(limit)

    async def one(item: Item) -> Result:
        async with free:
            return await work(item)

    return list(await asyncio.gather(*map(one, items)))


async def first_model(endpoint: Endpoint) -> str:
    """Id of the first model that the server lists. Raises Failed if it lists none."""
    models = (await endpoint.get("/v1/models")).get("data")
    if not models:
        raise Failed("/v1/models: the server names no model")
    return str(models[0]["id"])


def _wait(response: httpx.Response, attempt: int) -> float:
    """Seconds to wait before the next attempt; without a Retry-After header 0.5, 1, 2, ..."""
    given = response.headers.get("retry-after", "")
    return min(LONGEST_WAIT_S, float(given) if given.isdecimal() else 0.5 * 2 ** (attempt - 1))
