from __future__ import annotations

import pytest

from services.common.errors import ConfigError
from services.engine.serving.context_length import served_context


@pytest.mark.parametrize(
    ("asked", "model", "pages", "served"),
    [(0, 8192, 512, 8192), (0, 262_144, 512, 32_768), (4096, 8192, 512, 4096), (8192, 8192, 128, 8192)],
)
def test_the_context_is_what_is_asked_for_or_what_model_and_pages_allow(asked, model, pages, served):
    assert served_context(asked, model, pages) == served


def test_more_than_the_model_is_made_for_is_refused():
    with pytest.raises(ConfigError, match=r"context_length: 8193 .* the model is made for 8192"):
        served_context(8193, 8192, 10_000)


def test_more_than_the_pages_hold_is_refused_and_the_pages_needed_are_named():
    with pytest.raises(ConfigError, match=r"512 KV pages hold 32768. kv_pages must be at least 513"):
        served_context(32_769, 262_144, 512)
