"""The file of API keys: what it holds, who may change it, and how it is replaced."""

import json
import multiprocessing
import stat

import pytest

from services.common.errors import ConfigError
from services.gateway.access.key_file import KeyFile
from services.gateway.access.secret import PREFIX, digest, new_key
from tests.gateway.access.keys import add_key, made_key


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.json"


def test_a_key_is_256_random_bits_behind_a_prefix_by_which_scanners_know_it():
    first, second = new_key(), new_key()
    assert first != second
    assert first.startswith(PREFIX)
    assert len(bytes.fromhex(first.removeprefix(PREFIX))) == 32


def test_the_file_holds_digests_and_no_key_and_its_owner_alone_may_read_it(path):
    key = add_key(path, "team", max_concurrent=4)
    assert key.removeprefix(PREFIX) not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    [record] = KeyFile(path).read()
    assert (record.label, record.sha256, record.max_concurrent) == ("team", digest(key), 4)


def test_a_change_replaces_the_file_whole_and_leaves_nothing_beside_it(path):
    add_key(path, "one")
    with path.open() as reader:
        add_key(path, "two")
        assert [key["label"] for key in json.load(reader)["keys"]] == ["one"]
    assert [record.label for record in KeyFile(path).read()] == ["one", "two"]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_link_to_the_file_stays_a_link(path, tmp_path):
    add_key(path, "one")
    link = tmp_path / "link.json"
    link.symlink_to(path)
    add_key(link, "two")
    assert link.is_symlink()
    assert [record.label for record in KeyFile(path).read()] == ["one", "two"]


def test_a_label_names_one_key(path):
    add_key(path, "team")
    with pytest.raises(ConfigError, match="'team' has a key already"):
        add_key(path, "team")
    KeyFile(path).remove("team")
    add_key(path, "team")


def test_only_a_key_that_is_there_can_be_removed(path):
    add_key(path, "team")
    with pytest.raises(ConfigError, match=r"'other' has no key in .*; known: team"):
        KeyFile(path).remove("other")


def _add(path, label):
    add_key(path, label)


def test_keys_added_at_the_same_time_are_all_kept(path):
    context = multiprocessing.get_context("fork")
    adding = [context.Process(target=_add, args=(path, f"team-{number}")) for number in range(8)]
    for process in adding:
        process.start()
    for process in adding:
        process.join()
    assert {record.label for record in KeyFile(path).read()} == {f"team-{number}" for number in range(8)}


def test_a_file_that_others_may_change_is_refused(path):
    add_key(path)
    path.chmod(0o660)
    with pytest.raises(ConfigError, match=r"others than its owner may change it \(mode 660\)"):
        KeyFile(path).read()
    path.chmod(0o444)  # as secrets are mounted in containers
    assert len(KeyFile(path).read()) == 1


GOOD = {"label": "a", "sha256": "0" * 64, "scopes": ["chat"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "truncated"),
        ("[]", "Expected `object`"),
        ('{"keys": [{"label": "a"}]}', "missing required field `sha256`"),
        (json.dumps({"keys": [{**GOOD, "sha256": "short"}]}), r"\$.keys\[0\].sha256"),
        (json.dumps({"keys": [{**GOOD, "scopes": []}]}), r"\$.keys\[0\].scopes"),
        (json.dumps({"keys": [{**GOOD, "scopes": ["root"]}]}), "Invalid enum value 'root'"),
        (json.dumps({"keys": [{**GOOD, "label": "a b"}]}), r"\$.keys\[0\].label"),
        (json.dumps({"keys": [{**GOOD, "label": "a\n"}]}), r"\$.keys\[0\].label"),
        (json.dumps({"keys": [{**GOOD, "weight": 0}]}), r"\$.keys\[0\].weight"),
        (json.dumps({"keys": [{**GOOD, "expires": "2030-01-01T00:00:00"}]}), r"\$.keys\[0\].expires"),
        (json.dumps({"keys": [{**GOOD, "limit": 1}]}), "unknown field `limit`"),
        (json.dumps({"keys": [GOOD, {**GOOD, "label": "b"}]}), r"keys\[1\].sha256: 0+ occurs twice"),
        (json.dumps({"keys": [GOOD, {**GOOD, "sha256": "1" * 64}]}), r"keys\[1\].label: a occurs twice"),
    ],
)
def test_a_file_that_is_not_valid_is_refused_with_its_name_and_what_is_wrong(path, content, message):
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=f"api_keys: {path}: .*{message}"):
        KeyFile(path).read()


def test_a_missing_file_has_no_keys_to_read(path):
    with pytest.raises(ConfigError, match="No such file"):
        KeyFile(path).read()


def test_a_record_without_limits_is_short_in_the_file(path):
    KeyFile(path).add(made_key("team")[1])
    [entry] = json.loads(path.read_text())["keys"]
    assert set(entry) == {"label", "sha256", "scopes"}
