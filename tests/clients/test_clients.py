"""Each client finds true what it must."""

from __future__ import annotations

import pytest

from tests.clients.client import ASSERTIONS, CLIENTS

# The first test of a client installs it and runs its script.
pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize(
    ("client", "assertion"),
    [
        pytest.param(client, assertion, id=f"{client}-{assertion}")
        for client in CLIENTS
        for assertion in client.assertions
    ],
)
def test_a_client_finds_that(client, assertion, reports_of):
    report = reports_of(client)[assertion]
    assert report.holds, f"{client} does not find that {ASSERTIONS[assertion]}:\n{report.detail}"


@pytest.mark.parametrize("client", CLIENTS, ids=str)
def test_a_client_says_all_that_it_must_and_no_more(client, reports_of):
    assert sorted(reports_of(client)) == sorted(client.assertions)
