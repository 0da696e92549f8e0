"""Fingerprints tell checkpoints apart."""

from __future__ import annotations

import shutil

import pytest

from services.common.errors import CheckpointError
from services.engine.weights.fingerprint import fingerprint
from services.engine.weights.headers import INDEX_NAME, shard_names


@pytest.fixture
def checkpoint(nano_dir, tmp_path):
    directory = tmp_path / "elsewhere"
    shutil.copytree(nano_dir, directory)
    return directory


def test_a_copy_has_the_same_fingerprint(nano_dir, checkpoint):
    assert fingerprint(checkpoint) == fingerprint(nano_dir)
    assert len(fingerprint(checkpoint)) == 32


def test_another_configuration_has_another_fingerprint(checkpoint):
    before = fingerprint(checkpoint)
    path = checkpoint / "config.json"
    path.write_text(path.read_text().replace('"rope_theta": 50000.0', '"rope_theta": 10000.0'))
    assert fingerprint(checkpoint) != before


def test_other_numbers_of_the_same_shape_have_another_fingerprint(checkpoint):
    before = fingerprint(checkpoint)
    shard = checkpoint / shard_names(checkpoint)[-1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    shard.write_bytes(content)
    assert fingerprint(checkpoint) != before


@pytest.mark.parametrize("absent", ["config.json", "model-00001-of-00002.safetensors"])
def test_an_absent_file_is_named(checkpoint, absent):
    (checkpoint / absent).unlink()
    with pytest.raises(CheckpointError, match=absent):
        fingerprint(checkpoint)


def test_the_order_of_an_index_does_not_matter(checkpoint):
    before = fingerprint(checkpoint)
    path = checkpoint / INDEX_NAME
    path.write_text(path.read_text() + " ")
    assert fingerprint(checkpoint) == before
