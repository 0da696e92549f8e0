"""The embedded model through the whole suite: what people ask first gets right answers."""

from __future__ import annotations

from evals import cookbook
from evals.endpoint import Endpoint
from tests.support.stack import Stack


async def test_the_embedded_model_answers_the_cookbooks_questions_right(repository, tmp_path):
    with Stack(repository / "models" / "kimi-nano", tmp_path, {}) as stack:
        stack.start()
        server = Endpoint(stack.base_url)
        right = await cookbook.run(server, "kimi-nano", 400)
        await server.close()
    assert all(right.values()), right
