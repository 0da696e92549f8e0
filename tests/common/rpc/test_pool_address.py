"""Entries of a pool's setting."""

import pytest

from services.common.errors import ConfigError
from services.common.rpc.pool_address import PoolAddress, parse_pool


def test_a_pool_is_a_list_split_at_commas():
    assert parse_pool(" a:1, b.example:2,") == (PoolAddress("a", 1), PoolAddress("b.example", 2))
    assert parse_pool("") == ()


@pytest.mark.parametrize(
    ("text", "is_ip", "shown"),
    [("10.0.0.1:5", True, "10.0.0.1:5"), ("[::1]:5", True, "[::1]:5"), ("prefill:5", False, "prefill:5")],
)
def test_addresses_are_told_from_names(text, is_ip, shown):
    entry = PoolAddress.parse(text)
    assert (entry.is_ip, str(entry)) == (is_ip, shown)


@pytest.mark.parametrize("text", ["", "host", ":5", "host:", "host:0", "host:65536", "host:x"])
def test_what_is_not_host_and_port_is_refused(text):
    with pytest.raises(ConfigError, match="is not host:port"):
        PoolAddress.parse(text)
