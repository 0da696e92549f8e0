"""The door answers as it describes itself; `make fuzz` sends many more cases."""

import pytest

from tests.gateway.fuzz import fuzz, gateway


@pytest.mark.timeout(120)
def test_answers_to_right_and_wrong_bodies_are_as_described():
    with gateway() as base_url:
        outcome = fuzz(base_url, 40, 1)
    assert outcome.statuses.total() >= 40
    assert {200, 400} <= set(outcome.statuses)
