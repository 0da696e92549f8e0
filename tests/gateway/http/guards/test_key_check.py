"""REST with a file of API keys."""

import itertools

import pytest
import structlog

from services.gateway.access.key_file import KeyFile
from services.gateway.access.rules import ROUTES
from tests.gateway.access.keys import add_key, seconds_ago
from tests.gateway.suite import chat_body, open_suite, wait_until

CHATS = "/v1/chat/completions"
APP = "https://app.example.org"


class Door:
    """A suite that asks for keys, and the keys it knows."""

    def __init__(self, suite, path, keys):
        self.suite, self.path, self.http = suite, path, suite.http
        self.chat, self.admin, self.expired = keys


@pytest.fixture
async def door(tmp_path):
    path = tmp_path / "keys.json"
    keys = (
        add_key(path, "team"),
        add_key(path, "ops", scopes=["admin"]),
        add_key(path, "old", expires=seconds_ago(1)),
    )
    async with open_suite(api_keys=str(path), cors_origins=(APP,)) as suite:
        yield Door(suite, path, keys)


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def method_of(path):
    posts = ("completions", "generate", "tokenize", "messages", "count_tokens")
    return "POST" if path.endswith(posts) else "GET"


@pytest.mark.parametrize("send", [bearer, lambda key: {"x-api-key": key}])
async def test_a_key_lets_a_chat_in_by_either_header(door, send):
    answer = await door.http.post(CHATS, json=chat_body(), headers=send(door.chat))
    assert answer.status_code == 200


async def test_without_a_valid_key_the_answer_is_401_with_one_text_and_nothing_is_computed(door):
    KeyFile(door.path).remove("team")
    await wait_until(lambda: len(door.suite.gateway._gatekeeper._by_digest) == 2)
    answers = [
        await door.http.post(CHATS, json=chat_body(), headers=headers)
        for headers in (
            {}, bearer("perigee_" + "0" * 64), bearer(door.expired), bearer(door.chat),
            {"x-api-key": ""}, {"authorization": "Basic dTpw"},
        )
    ]  # fmt: skip
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    [error] = [dict(each) for each in {tuple(answer.json()["error"].items()) for answer in answers}]
    assert (error["type"], error["code"], error["param"]) == (
        "invalid_request_error", "invalid_api_key", None,
    )  # fmt: skip
    assert not door.suite.decode.submits


@pytest.mark.parametrize("path", ROUTES)
async def test_a_route_answers_a_key_with_its_scope_and_refuses_every_other(door, path):
    need, spelt = ROUTES[path], path.replace("{name}", "kimi")
    statuses = {
        name: (await door.http.request(method_of(path), spelt, headers=headers)).status_code
        for name, headers in (("none", {}), ("chat", bearer(door.chat)), ("admin", bearer(door.admin)))
    }
    if need is None:
        assert set(statuses.values()) == {200}
        return
    assert statuses.pop("none") == 401
    good = statuses.pop(need)
    assert good == (400 if method_of(path) == "POST" else 200)  # there is no body
    assert set(statuses.values()) == {403}


SPELT = ["/metrics%0A", "/metrics/", "//metrics", "/metrics%00", "/METRICS", "/v1/../metrics", "/%6detrics"]


@pytest.mark.parametrize(
    ("path", "method"), list(itertools.product(SPELT, ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]))
)
async def test_no_spelling_of_a_path_takes_a_chat_key_to_an_admin_page(door, path, method):
    request = door.http.build_request(method, "/", headers=bearer(door.chat))
    request.url = request.url.copy_with(raw_path=path.encode())
    answer = await door.http.send(request, follow_redirects=False)
    assert answer.status_code != 200
    assert "perigee_" not in answer.text


async def test_an_unknown_route_is_unknown_to_those_with_a_key_only(door):
    assert (await door.http.get("/nothing")).status_code == 401
    for key in (door.chat, door.admin):
        assert (await door.http.get("/nothing", headers=bearer(key))).status_code == 404


async def test_health_does_not_show_workers_addresses_to_everybody(door, suite):
    for path in ("/health", "/ready"):
        assert (await door.http.get(path)).json()["workers"] == {}
        assert len((await suite.http.get(path)).json()["workers"]) == 3


async def test_a_preflight_is_answered_before_keys_and_a_refusal_can_be_read_by_the_page(door):
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    assert (await door.http.options(CHATS, headers={"origin": APP, **asks})).status_code == 204
    refused = await door.http.post(CHATS, json=chat_body(), headers={"origin": APP})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == APP


async def test_keys_change_while_the_gateway_runs(door):
    key = add_key(door.path, "new")

    async def status():
        answer = await door.http.post(CHATS, json=chat_body(), headers=bearer(key))
        return answer.status_code

    async def let_in():
        return await status() == 200

    async def shut_out():
        return await status() == 401

    await wait_until(let_in)
    KeyFile(door.path).remove("new")
    await wait_until(shut_out)


async def test_the_log_has_the_label_of_a_key_and_never_the_key(door):
    sent = [door.chat, door.admin, door.expired, "perigee_canary"]
    with structlog.testing.capture_logs() as lines:
        for key in sent:
            await door.http.post(CHATS, json=chat_body(), headers=bearer(key))
    ends = [line for line in lines if line["event"] == "request"]
    assert [(line["status"], line.get("key"), line.get("why")) for line in ends] == [
        (200, "team", None), (403, "ops", "no scope chat"), (401, "old", "expired key"),
        (401, None, "unknown key"),
    ]  # fmt: skip
    assert not any(key in str(lines) for key in sent)
    metrics = (await door.http.get("/metrics", headers=bearer(door.admin))).text
    assert 'perigee_requests_total{door="rest",outcome="refused"} 3.0' in metrics
    assert not any(key in metrics for key in sent)


async def test_without_a_file_of_keys_any_key_is_accepted_and_ignored(suite):
    for headers in ({}, bearer("anything"), {"x-api-key": "x"}):
        assert (await suite.http.post(CHATS, json=chat_body(), headers=headers)).status_code == 200
