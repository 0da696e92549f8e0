"""Who is let in, by key, scope and time."""

from datetime import UTC, datetime

import pytest

from services.common.errors import PermissionDenied, Unauthenticated
from services.gateway.access.gatekeeper import Gatekeeper, key_in, presented_key
from tests.gateway.access.keys import made_key
from tests.support.manual_clock import ManualClock


def test_without_a_file_of_keys_everybody_is_let_in_and_nobody_has_a_key():
    gatekeeper = Gatekeeper(None)
    assert gatekeeper.caller(None, "admin") is None
    assert gatekeeper.caller("anything", "chat") is None


def test_a_key_is_let_in_for_its_scopes_alone():
    key, record = made_key(scopes=["chat"])
    gatekeeper = Gatekeeper([record])
    assert gatekeeper.caller(key, "chat").record is record
    assert gatekeeper.caller(key, "any").record is record
    with pytest.raises(PermissionDenied, match="'admin'"):
        gatekeeper.caller(key, "admin")


def test_an_admin_key_does_not_chat_unless_it_has_that_scope_too():
    key, record = made_key("ops", scopes=["admin"])
    both, other = made_key("both", scopes=["chat", "admin"])
    gatekeeper = Gatekeeper([record, other])
    with pytest.raises(PermissionDenied, match="'chat'"):
        gatekeeper.caller(key, "chat")
    assert gatekeeper.caller(both, "chat") is gatekeeper.caller(both, "admin")
    assert gatekeeper.caller(both, "chat").record is other


def test_what_is_open_needs_no_key_and_ignores_a_wrong_one():
    assert Gatekeeper([]).caller(None, None) is None
    assert Gatekeeper([]).caller("wrong", None) is None


def refusal(gatekeeper, key):
    with pytest.raises(Unauthenticated) as caught:
        gatekeeper.caller(key, "chat")
    return caught.value


def test_a_missing_unknown_expired_or_revoked_key_is_refused_by_one_text_and_only_the_log_knows_why():
    clock = ManualClock(100.0)
    key, record = made_key(expires=datetime.fromtimestamp(200, UTC))
    revoked, other = made_key("other")
    gatekeeper = Gatekeeper([record, other], clock=clock)
    gatekeeper.caller(revoked, "chat")
    gatekeeper.replace([record])
    clock.now = 199.9
    assert gatekeeper.caller(key, "chat").record is record
    clock.now = 200.0
    refusals = [refusal(gatekeeper, each) for each in (None, "", "perigee_0", "\ud800", revoked, key)]
    assert len({error.message for error in refusals}) == 1
    assert [error.why for error in refusals] == [
        "no key", "unknown key", "unknown key", "unknown key", "unknown key", "expired key",
    ]  # fmt: skip
    assert [error.label for error in refusals][-1] == "team"


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "found"),
    [
        (None, None, None),
        ("Bearer abc", None, "abc"),
        ("bearer  abc ", None, "abc"),
        (None, "abc", "abc"),
        ("Bearer abc", "def", "abc"),
        ("Basic dTpw", "def", "def"),
        ("Basic dTpw", None, None),
        ("Bearer", None, ""),
        ("Bearer ", "def", ""),
    ],
)
def test_a_key_comes_as_a_bearer_token_or_else_as_x_api_key(authorization, x_api_key, found):
    assert presented_key(authorization, x_api_key) == found


def test_a_key_in_metadata_is_text():
    assert key_in(None) is None
    assert key_in((("x-api-key", "abc"),)) == "abc"
    assert key_in((("authorization", b"Bearer abc"), ("x-api-key", "def"))) == "def"
