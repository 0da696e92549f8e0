"""How many prompt tokens a step has, unless told."""

from __future__ import annotations

import pytest

from services.decode.config import DecodeConfig


@pytest.mark.parametrize(
    ("settings", "device", "expected"),
    [
        ({}, "cpu", 256),
        ({}, "cuda", 256),
        ({"aggregated": True}, "cpu", 128),
        ({"aggregated": True}, "cuda", 2048),
        ({"aggregated": True, "chunk_tokens": 512}, "cpu", 512),
        ({"chunk_tokens": 64}, "cuda", 64),
    ],
)
def test_the_default_follows_from_role_and_device(settings, device, expected):
    assert DecodeConfig(**settings).chunk_on(device) == expected
