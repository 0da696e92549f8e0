"""`perigee keys`, and the key of whoever runs another command."""

import stat

import grpc
import pytest

from services.cli.main import main
from services.gateway.access.key_file import KeyFile
from services.gateway.access.secret import digest


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.json"


def keys(path, *words):
    return main(["keys", *words, "--api-keys", str(path)])


def test_create_prints_the_key_alone_and_keeps_its_digest(path, capsys):
    assert keys(path, "create", "team-a", "--max-concurrent", "4", "--tokens-per-minute", "900") == 0
    printed = capsys.readouterr()
    [record] = KeyFile(path).read()
    assert digest(printed.out.strip()) == record.sha256
    assert printed.out.startswith("perigee_")
    assert printed.out.count("\n") == 1
    assert "only time" in printed.err
    assert (record.label, record.scopes, record.max_concurrent) == ("team-a", ["chat"], 4)
    assert (record.tokens_per_minute, record.requests_per_minute, record.expires) == (900, 0, None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_list_shows_all_but_the_keys(path, capsys):
    keys(path, "create", "team-a", "--scope", "chat", "--scope", "admin", "--weight", "3")
    keys(path, "create", "b", "--expires-in-days", "0.000001")
    secrets = capsys.readouterr().out.split()
    assert keys(path, "list") == 0
    shown = capsys.readouterr().out
    head, first, second = (line.split() for line in shown.splitlines())
    assert head[:6] == ["LABEL", "SCOPES", "CONCURRENT", "REQUESTS/MIN", "TOKENS/MIN", "WEIGHT"]
    assert first[:6] == ["team-a", "chat,admin", "share", "-", "-", "3"]
    assert second[0] == "b"
    assert not any(secret.removeprefix("perigee_") in shown for secret in secrets)


def test_revoke_removes_a_key_and_only_that(path):
    keys(path, "create", "a")
    keys(path, "create", "b")
    assert keys(path, "revoke", "a") == 0
    assert [record.label for record in KeyFile(path).read()] == ["b"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create", "a b"), "label"),
        (("create", "c", "--weight", "0"), "weight"),
        (("create", "c", "--max-concurrent", "-1"), "max_concurrent"),
        (("create", "c", "--expires-in-days", "0"), "--expires-in-days"),
        (("create", "taken"), "'taken' has a key already"),
        (("revoke", "nobody"), "'nobody' has no key"),
    ],
)
def test_what_cannot_be_is_an_error_that_names_it_and_changes_nothing(path, capsys, words, message):
    keys(path, "create", "taken")
    before = path.read_bytes()
    assert keys(path, *words) == 2
    assert message in capsys.readouterr().err
    assert path.read_bytes() == before


def test_the_file_is_named_by_a_flag_or_a_variable(path, monkeypatch, capsys):
    monkeypatch.delenv("PERIGEE_API_KEYS", raising=False)
    assert main(["keys", "list"]) == 2
    assert "PERIGEE_API_KEYS" in capsys.readouterr().err
    monkeypatch.setenv("PERIGEE_API_KEYS", str(path))
    assert main(["keys", "create", "team"]) == 0
    assert len(KeyFile(path).read()) == 1


def test_a_command_sends_the_key_in_the_environment_and_no_other(door, monkeypatch):
    monkeypatch.delenv("PERIGEE_API_KEY", raising=False)
    assert main(["workers", "--address", door.address]) == 0
    monkeypatch.setenv("PERIGEE_API_KEY", "perigee_1")
    assert main(["workers", "--address", door.address]) == 0
    assert door.keys == [None, "Bearer perigee_1"]


def test_a_variable_that_holds_no_key_is_an_error_before_anything_is_sent(door, monkeypatch, capsys):
    monkeypatch.setenv("PERIGEE_API_KEY", "two\nlines")
    assert main(["workers", "--address", door.address]) == 2
    assert "PERIGEE_API_KEY" in capsys.readouterr().err
    assert door.keys == []


def test_a_refused_command_prints_the_reason(door, monkeypatch, capsys):
    door.refuses = grpc.StatusCode.UNAUTHENTICATED
    assert main(["workers", "--address", door.address]) == 1
    assert "no key" in capsys.readouterr().err
