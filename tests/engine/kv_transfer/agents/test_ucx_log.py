import logging
import os

import pytest

from services.engine.kv_transfer.agents.ucx_log import UcxLog, loaded_libraries

LINE = "[1795488802.721518] [vm:5878 :0]   "


@pytest.fixture(autouse=True)
def _no_operator_settings(monkeypatch):
    monkeypatch.delenv("UCX_LOG_FILE", raising=False)
    monkeypatch.delenv("UCX_PROTO_INFO", raising=False)


def test_the_log_is_redirected_only_while_ucx_is_loaded():
    log = UcxLog()
    with log.captured():
        assert os.environ["UCX_LOG_FILE"].startswith("/proc/self/fd/")
    assert "UCX_LOG_FILE" not in os.environ
    assert "UCX_PROTO_INFO" not in os.environ


def test_table_rows_are_kept_and_other_lines_are_handed_on(caplog):
    log = UcxLog()
    with log.captured():
        path = os.environ["UCX_LOG_FILE"]
    with open(path, "w") as file:
        file.write(f"{LINE}+-----+\n{LINE}| a self cfg#0 |\n[1.2] [vm:1 :0] ucp.c:7 UCX  WARN  low memory\n")
        file.flush()
        with caplog.at_level(logging.WARNING):
            assert log.tables() == ["a self cfg#0 |"]
        file.write(f"{LINE}| 0..inf | zero-copy | cma/memory |\n")
        file.flush()
        assert log.tables() == ["a self cfg#0 |", "0..inf | zero-copy | cma/memory |"]
    assert "low memory" in caplog.text
    assert "cfg#0" not in caplog.text


def test_an_operators_own_log_settings_are_left_alone(monkeypatch):
    monkeypatch.setenv("UCX_LOG_FILE", "stderr")
    log = UcxLog()
    with log.captured():
        assert os.environ["UCX_LOG_FILE"] == "stderr"
        assert "UCX_PROTO_INFO" not in os.environ
    assert os.environ["UCX_LOG_FILE"] == "stderr"
    assert log.tables() == []


MAPS = """\
7f01-7f02 r-xp 00000000 08:01 11 /opt/with space/libucs.so.0 (deleted)
7f02-7f03 r--p 00001000 08:01 11 /opt/with space/libucs.so.0 (deleted)
7f03-7f04 r-xp 00000000 08:01 12 /opt/libucs_signal.so
7f05-7f06 rw-p 00000000 00:00 0
"""


def test_a_library_replaced_under_a_running_worker_is_asked_by_the_name_it_was_loaded_by():
    assert loaded_libraries(MAPS) == ["/opt/with space/libucs.so.0", "/opt/libucs_signal.so"]


def test_the_log_is_read_though_its_library_is_gone(monkeypatch, caplog):
    monkeypatch.setattr(
        "services.engine.kv_transfer.agents.ucx_log.loaded_libraries", lambda maps: ["/gone/libucs.so"]
    )
    log = UcxLog()
    with log.captured():
        path = os.environ["UCX_LOG_FILE"]
    with open(path, "w") as file:
        file.write(f"{LINE}| a self cfg#0 |\n")
    assert log.tables() == ["a self cfg#0 |"]


def test_half_a_line_is_read_when_it_is_whole():
    log = UcxLog()
    with log.captured():
        path = os.environ["UCX_LOG_FILE"]
    with open(path, "w") as file:
        file.write(f"{LINE}| a self cfg#0 |\n{LINE}| 0..inf | zero")
        file.flush()
        assert log.tables() == ["a self cfg#0 |"]
        file.write("-copy | cma/memory |\n")
        file.flush()
        assert log.tables() == ["a self cfg#0 |", "0..inf | zero-copy | cma/memory |"]
