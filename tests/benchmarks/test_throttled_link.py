from __future__ import annotations

import pytest

from benchmarks import throttled_link


def test_the_last_group_is_one_of_five_layers_of_the_last_of_four_chunks(nano_dir):
    layers = throttled_link.last_group(nano_dir)
    assert layers == pytest.approx(throttled_link.CHUNK / throttled_link.TOKENS * _ready_last(nano_dir))


def _ready_last(nano_dir):
    """The share of the layers in the last group that a runner announces."""
    from services.engine.model.architectures import load_config

    count = load_config(nano_dir).text.num_hidden_layers
    group = -(-count // 4)
    return len(range((count - 1) // group * group, count)) / count


def test_without_the_rights_it_needs_it_is_not_run(capsys, monkeypatch):
    monkeypatch.setattr(throttled_link.os, "geteuid", lambda: 1000)
    assert throttled_link.main([]) == 0
    assert "not run: it takes root" in capsys.readouterr().out
