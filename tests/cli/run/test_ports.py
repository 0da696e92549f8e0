from __future__ import annotations

import socket

import pytest

from services.cli.run.ports import take_ports
from services.common.errors import ConfigError
from tests.support.endpoints import ENDPOINTS


def test_zero_gives_free_ports_that_differ():
    ports = take_ports(ENDPOINTS, "127.0.0.1", 0, 3, "--port-base")
    assert len(set(ports)) == 3
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


def test_a_base_gives_the_ports_that_follow():
    base = take_ports(ENDPOINTS, "127.0.0.1", 0, 1, "--port-base")[0]
    assert take_ports(ENDPOINTS, "127.0.0.1", base, 1, "--port-base") == [base]


def test_a_taken_port_is_named_with_the_flag_that_changes_it():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}: the port is taken; .*--http-port"):
            take_ports(ENDPOINTS, "127.0.0.1", port, 1, "--http-port")


def test_an_address_of_another_machine_is_an_error_of_its_own():
    with pytest.raises(ConfigError, match="Cannot assign requested address"):
        take_ports(ENDPOINTS, "192.0.2.1", 0, 1, "--http-port")
