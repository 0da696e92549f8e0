"""What a service's log says about the loading of its checkpoint."""

from __future__ import annotations

import io
import json

import pytest
import structlog

from services.cli.run_directory.load_log import LoadLog
from services.engine.weights.progress import LoadProgress


def line(shards, done):
    values = {"shards": shards, "of_shards": 64, "done_bytes": done * 10**9, "total_bytes": 595 * 10**9}
    return json.dumps({"event": "loading weights", **values}) + "\n"


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "decode.log"
    path.write_text(line(63, 590))
    return path


def test_the_latest_line_counts_and_those_of_an_earlier_start_do_not(log):
    load = LoadLog(log)
    assert load.latest() == ""
    with log.open("a") as file:
        file.write('{"event": "loading"}\nplain text\n' + line(1, 9) + line(12, 110) + '{"event": "other"}\n')
    assert load.latest() == "12 of 64 shards, 110.0 of 595.0 GB"
    assert load.latest() == "12 of 64 shards, 110.0 of 595.0 GB"


def test_a_line_that_is_still_written_is_read_when_it_is_whole(log):
    load, text = LoadLog(log), line(2, 18)
    with log.open("a") as file:
        file.write(text[:30])
        file.flush()
        assert load.latest() == ""
        file.write(text[30:])
    assert load.latest() == "2 of 64 shards, 18.0 of 595.0 GB"


@pytest.mark.parametrize(
    "broken", ['{"loading weights" ', '{"a": "loading weights"}', '{"event": "loading weights"}']
)
def test_a_line_that_says_nothing_is_no_error(log, broken):
    load = LoadLog(log)
    with log.open("a") as file:
        file.write(broken + "\n" + "x" * 200_000 + "\n" + line(3, 27))
    assert [load.latest() for _ in range(5)][-1] == "3 of 64 shards, 27.0 of 595.0 GB"


def test_without_a_file_nothing_is_known(tmp_path):
    assert LoadLog(None).latest() == LoadLog(tmp_path / "absent").latest() == ""


def test_it_understands_what_a_service_logs(tmp_path):
    load = LoadLog(path := tmp_path / "prefill.log")
    progress = LoadProgress({"a": 10**9, "b": 3 * 10**9}, io.StringIO())
    with structlog.testing.capture_logs() as logged:
        progress.advance("a", 10**9)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in logged))
    assert load.latest() == "1 of 2 shards, 1.0 of 4.0 GB"
