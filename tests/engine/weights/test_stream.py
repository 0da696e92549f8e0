"""Reading ahead, bounded, and saying how far it is."""

from __future__ import annotations

import io
import threading

import pytest
import structlog
import torch

from services.common.errors import CheckpointError
from services.engine.weights.progress import LoadProgress
from services.engine.weights.stream import StreamedTensors

NAMES = [f"t{index}" for index in range(20)]


class CountingReader:
    """Knows how many tensors were read, and which one cannot be."""

    def __init__(self, broken=()):
        self.lock = threading.Lock()
        self.read_names = []
        self.broken = broken
        self.taken = 0
        self.most_ahead = 0

    def read(self, name):
        with self.lock:
            self.read_names.append(name)
            self.most_ahead = max(self.most_ahead, len(self.read_names) - self.taken)
        if name in self.broken:
            raise CheckpointError(f"{name} cannot be read")
        return torch.tensor(int(name[1:]))

    def stored_bytes(self, name):
        return 10

    def shard(self, name):
        return "only"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def progress():
    return LoadProgress({"only": 200}, io.StringIO())


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1], NAMES[10:] + NAMES[:10]])
def test_every_tensor_is_read_once_whatever_the_order(order):
    reader = CountingReader()
    with StreamedTensors(reader, NAMES, progress(), readers=3) as tensors:
        assert [int(tensors[name]) for name in order] == [int(name[1:]) for name in order]
    assert sorted(reader.read_names) == sorted(NAMES)


def test_no_more_than_so_many_are_read_ahead():
    reader = CountingReader()
    with StreamedTensors(reader, NAMES, progress(), readers=3) as tensors:
        for count, name in enumerate(NAMES, start=1):
            reader.taken = count
            tensors[name]
    assert reader.most_ahead <= 3


def test_asking_whether_a_tensor_is_there_reads_nothing():
    reader = CountingReader()
    with StreamedTensors(reader, NAMES, progress()) as tensors:
        assert "t3" in tensors
        assert "other" not in tensors
        assert len(list(tensors)) == len(tensors) == 20
    assert reader.read_names == []


def test_a_tensor_that_cannot_be_read_ends_the_loading():
    reader = CountingReader(broken=("t2",))
    with StreamedTensors(reader, NAMES, progress(), readers=2) as tensors:
        assert [int(tensors[name]) for name in ("t0", "t1")] == [0, 1]
        with pytest.raises(CheckpointError, match="t2 cannot be read"):
            tensors["t2"]
    assert len(reader.read_names) <= 5


def test_a_terminal_sees_a_bar():
    ticks = iter(range(100))
    terminal = Terminal()
    shards = {"a": 1_000_000_000, "b": 3_000_000_000}
    bar = LoadProgress(shards, terminal, clock=lambda: float(next(ticks)))
    bar.advance("a", 1_000_000_000)
    bar.advance("b", 3_000_000_000)
    bar.close()
    first, *_, last = terminal.getvalue().strip().split("\r")
    assert first == "loading weights [#######-----------------------]  25%  1.0 of 4.0 GB, 1 of 2 shards"
    assert last == "loading weights [##############################] 100%  4.0 of 4.0 GB, 2 of 2 shards"


def test_elsewhere_there_is_a_line_every_ten_seconds(capsys):
    now = [0.0]
    stream = io.StringIO()
    lines = LoadProgress({"only": 1000}, stream, clock=lambda: now[0])
    for _ in range(25):
        now[0] += 1.0
        lines.advance("only", 4)
    lines.close()
    assert stream.getvalue() == ""
    assert capsys.readouterr().out.count("loading weights") == 2


def test_elsewhere_there_is_a_line_for_every_shard_that_is_complete():
    lines = LoadProgress({"a": 20, "b": 10, "c": 10, "empty": 0}, io.StringIO(), clock=lambda: 0.0)
    with structlog.testing.capture_logs() as logged:
        for shard in "aabcc":
            lines.advance(shard, 10)
    shown = [(line["shards"], line["of_shards"], line["done_bytes"], line["total_bytes"]) for line in logged]
    assert shown == [(1, 3, 20, 40), (2, 3, 30, 40), (3, 3, 40, 40)]
