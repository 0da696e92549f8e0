"""Settings that prefill and decode workers share."""

from __future__ import annotations

import pytest

from services.common.errors import ConfigError
from services.common.settings import resolve
from services.decode.config import DecodeConfig
from services.prefill.config import PrefillConfig


@pytest.mark.parametrize("config", [PrefillConfig, DecodeConfig])
def test_a_misspelt_transport_is_refused_by_name_instead_of_allowing_any(config):
    with pytest.raises(ConfigError, match="expected_transport"):
        resolve(config, {"expected_transport": "rmda"}, {}, {})
    assert resolve(config, {"expected_transport": "rdma"}, {}, {}).expected_transport == "rdma"


@pytest.mark.parametrize("config", [PrefillConfig, DecodeConfig])
@pytest.mark.parametrize("key", ["expert_parallel", "dp_attention"])
def test_how_a_group_shares_is_refused_where_there_is_none(config, key):
    with pytest.raises(ConfigError, match=f"{key}.*tp"):
        resolve(config, {key: True}, {}, {})
    assert getattr(resolve(config, {key: True, "tp": 2}, {}, {}), key)
