"""A file of keys that changes while a gateway runs."""

import asyncio
import os

import pytest

from services.common.errors import ConfigError
from services.gateway.access.key_file import KeyFile
from services.gateway.access.key_watch import KeyWatch
from tests.gateway.access.keys import add_key


@pytest.fixture
def path(tmp_path):
    add_key(tmp_path / "keys.json", "one")
    return tmp_path / "keys.json"


@pytest.fixture
def seen():
    """What the watch has applied: the labels of each time."""
    return []


@pytest.fixture
def watch(path, seen):
    made = KeyWatch(path, lambda records: seen.append([record.label for record in records]))
    made.start()
    return made


def test_the_file_is_read_at_the_start_and_again_only_when_it_has_changed(path, seen, watch):
    watch.look()
    assert seen == [["one"]]
    add_key(path, "two")
    watch.look()
    watch.look()
    KeyFile(path).remove("one")
    watch.look()
    assert seen == [["one"], ["one", "two"], ["two"]]


def test_a_file_touched_without_a_change_of_size_is_read_again(path, seen, watch):
    os.utime(path, ns=(1, 1))
    watch.look()
    assert len(seen) == 2


@pytest.mark.parametrize("broken", ["not JSON", '{"keys": [{}]}'])
def test_a_broken_file_keeps_the_old_keys_until_it_is_whole_again(path, seen, watch, caplog, broken):
    good = path.read_text()
    path.write_text(broken)
    watch.look()
    watch.look()
    assert len(seen) == 1
    path.write_text(good)
    watch.look()
    assert seen == [["one"], ["one"]]


def test_a_file_that_vanishes_or_that_others_may_change_keeps_the_old_keys(path, seen, watch):
    path.chmod(0o666)
    watch.look()
    path.unlink()
    watch.look()
    assert len(seen) == 1
    add_key(path, "new")
    watch.look()
    assert seen[-1] == ["new"]


def test_a_gateway_does_not_start_with_a_broken_file(path, seen):
    path.write_text("{")
    with pytest.raises(ConfigError):
        KeyWatch(path, seen.append).start()


@pytest.mark.virtual_time
async def test_a_running_watch_looks_every_second(path, seen, watch):
    running = asyncio.create_task(watch.run())
    add_key(path, "two")
    await asyncio.sleep(0.9)
    assert len(seen) == 1
    await asyncio.sleep(0.2)
    assert seen[-1] == ["one", "two"]
    running.cancel()
