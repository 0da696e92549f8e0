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


def test_a_file_lists_a_worker_per_line_and_is_read_anew(tmp_path):
    path = tmp_path / "prefill.pool"
    first, second = parse_pool(f"a:1,file:{path}")
    assert (first, second.is_ip, str(second)) == (PoolAddress("a", 1), False, f"file:{path}")
    path.write_text("10.0.0.1:5\n[::1]:6\n")
    assert second.read() == [PoolAddress("10.0.0.1", 5), PoolAddress("::1", 6)]
    path.write_text("")
    assert second.read() == []


@pytest.mark.parametrize("line", ["10.0.0.1", "prefill:5", "10.0.0.1:5,10.0.0.2:5"])
def test_a_line_that_is_no_ip_address_and_port_is_refused_with_the_files_name(tmp_path, line):
    path = tmp_path / "prefill.pool"
    path.write_text(f"10.0.0.1:5\n{line}\n")
    [entry] = parse_pool(f"file:{path}")
    with pytest.raises(ValueError, match=r"prefill\.pool: "):
        entry.read()


def test_a_host_called_file_is_still_a_host():
    assert parse_pool("file:5") == (PoolAddress("file", 5),)
