"""GET /v1/models in both forms, other names of a model, and /."""

from __future__ import annotations

import msgspec
import pytest

from services.common.errors import ConfigError
from services.gateway.http.messages.shapes.message import MessagesModel, MessagesModels
from services.gateway.http.shapes.server import ModelsAnswer
from tests.gateway.suite import open_suite

VERSION = {"anthropic-version": "2023-06-01"}


async def test_the_list_has_the_form_of_the_protocol_that_is_spoken(suite):
    plain = (await suite.http.get("/v1/models")).json()
    msgspec.convert(plain, ModelsAnswer, strict=True)
    assert plain["models"] == []
    listed = (await suite.http.get("/v1/models", headers=VERSION)).json()
    msgspec.convert(listed, MessagesModels, strict=True)
    assert [each["id"] for each in listed["data"]] == [each["id"] for each in plain["data"]]
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("kimi", "kimi-alias", False)
    one = (await suite.http.get("/v1/models/kimi", headers=VERSION)).json()
    assert one == listed["data"][0]
    msgspec.convert(one, MessagesModel, strict=True)


async def test_an_alias_stands_for_a_served_name_on_every_route():
    async with open_suite(model_alias=("claude-*=kimi-alias", "*-mini=kimi")) as suite:
        for name, served in (("claude-opus-9", "kimi-alias"), ("gpt-mini", "kimi"), ("kimi", "kimi")):
            assert (await suite.chat(model=name)).json()["model"] == served
            assert (await suite.http.get(f"/v1/models/{name}")).json()["id"] == served
        assert (await suite.chat(model="gpt-maxi")).status_code == 404


@pytest.mark.parametrize("entry", ["claude-*", "=kimi", "claude-*=nobody"])
async def test_an_alias_of_nothing_is_a_setting_error(entry):
    with pytest.raises(ConfigError, match="model_alias"):
        async with open_suite(model_alias=(entry,)):
            pass


async def test_the_root_is_there_for_those_who_look_whether_anybody_is(suite):
    for method in ("HEAD", "GET"):
        assert (await suite.http.request(method, "/")).status_code == 200
