"""Who may act in a reader's name."""

from __future__ import annotations

import hmac
from itertools import count

import pytest

from services.common.errors import AlreadyPaired, Unavailable
from services.engine.serving.paired_readers import PairedReaders


@pytest.fixture
def readers():
    numbers = count(1)
    return PairedReaders(lambda: next(numbers).to_bytes(16, "big"))


def test_the_token_of_the_offer_is_the_only_one_that_counts(readers):
    token = readers.join("a", b"").token
    other = readers.join("b", b"").token
    readers.authenticate("a", token)
    for reader, wrong in (("a", other), ("a", b""), ("a", token[:15]), ("a", token + b"x"), ("c", token)):
        with pytest.raises(Unavailable):
            readers.authenticate(reader, wrong)


def test_a_pairing_that_was_replaced_ends_nothing(readers):
    first = readers.join("a", b"")
    second = readers.join("a", first.token)
    assert (first.is_first, second.is_first, second.token) == (True, False, first.token)
    assert first.replaced.is_set()
    assert not readers.leave(first)
    assert readers.is_paired("a")
    assert readers.leave(second)
    assert not readers.is_paired("a")
    with pytest.raises(Unavailable):
        readers.authenticate("a", first.token)


def test_a_reader_that_proved_itself_keeps_its_name_when_it_is_gone(readers):
    pairing = readers.join("a", b"")
    readers.authenticate("a", pairing.token)
    readers.leave(pairing)
    with pytest.raises(AlreadyPaired):
        readers.join("a", b"")
    again = readers.join("a", pairing.token)
    assert (again.is_first, again.token) == (True, pairing.token)


def test_a_reader_that_never_received_its_offer_may_say_hello_again(readers):
    lost = readers.join("a", b"")
    readers.leave(lost)
    assert readers.join("a", b"").token != lost.token


def test_the_names_of_readers_that_are_gone_are_bounded(readers):
    for number in range(1100):
        pairing = readers.join(f"reader-{number}", b"x")
        readers.authenticate(pairing.reader, pairing.token)
        readers.leave(pairing)
    assert len(readers._tokens_of_gone) == 1024
    assert readers.join("reader-0", b"").is_first


def test_tokens_are_compared_in_constant_time(readers, monkeypatch):
    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda *both: compared.append(both) or both[0] == both[1])
    token = readers.join("a", b"").token
    readers.authenticate("a", token)
    with pytest.raises(AlreadyPaired):
        readers.join("a", b"no")
    assert compared == [(token, token), (token, b"no")]


def test_a_pairing_shows_no_token(readers):
    assert "token" not in repr(readers.join("a", b""))
