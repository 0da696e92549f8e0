"""Pages of other sites use the gateway from a browser where a setting allows it, and only there."""

import asyncio
import json

import pytest

from services.common.errors import ConfigError
from services.gateway.config import GatewayConfig
from services.gateway.http.guards.cors import Cors
from tests.gateway.browser import needs_browser, open_browser
from tests.gateway.suite import chat_body, open_suite, parse_events, wait_until

CHATS = "/v1/chat/completions"
APP, OTHER = "https://app.example.org", "https://evil.test"
ASKS = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}


def cors_headers(answer):
    return {key: value for key, value in answer.headers.items() if key.startswith("access-control-")}


@pytest.fixture
async def open_door():
    """A suite that pages of APP and of a local development server may use."""
    async with open_suite(cors_origins=(APP, "http://localhost:5173"), max_concurrent_requests=2) as suite:
        yield suite


async def preflight(suite, path=CHATS, origin=APP, **asks):
    headers = {"origin": origin, **ASKS, **asks}
    return await suite.http.options(path, headers=headers)


@pytest.mark.parametrize(
    "path", [CHATS, "/v1/completions", "/generate", "/v1/models", "/metrics", "/nothing"]
)
async def test_a_preflight_of_a_listed_origin_is_answered_on_every_route(open_door, path):
    answer = await preflight(open_door, path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["access-control-allow-headers"] == "content-type"
    assert {"GET", "POST", "PUT"} <= set(answer.headers["access-control-allow-methods"].split(", "))
    assert "access-control-allow-credentials" not in answer.headers
    vary = answer.headers["vary"].lower()
    assert all(name in vary for name in ("origin", "access-control-request-method", "-request-headers"))


KNOWN = [
    "authorization", "content-type", "x-api-key", "anthropic-version", "anthropic-beta",
    "anthropic-dangerous-direct-browser-access", "x-stainless-lang", "x-stainless-retry-count",
    "x-request-id", "openai-organization",
]  # fmt: skip


@pytest.mark.parametrize("separator", [",", ", "])
async def test_headers_of_the_usual_clients_are_allowed_and_others_are_not(open_door, separator):
    asked = separator.join([*KNOWN, "x-evil", "cookie", "anthropic"])
    answer = await preflight(open_door, **{"access-control-request-headers": asked})
    assert answer.headers["access-control-allow-headers"].split(", ") == KNOWN
    answer = await preflight(open_door, **{"access-control-request-headers": "Authorization,X-Stainless-OS"})
    assert answer.headers["access-control-allow-headers"] == "authorization, x-stainless-os"


@pytest.mark.parametrize(
    "origin", [OTHER, "null", "http://app.example.org", f"{APP}:8443", f"{APP}.evil.test"]
)
async def test_an_origin_that_is_not_listed_gets_no_header_that_lets_it_read(open_door, origin):
    answer = await preflight(open_door, origin=origin)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")
    assert not cors_headers(answer)
    answer = await open_door.http.get("/v1/models", headers={"origin": origin})
    assert not cors_headers(answer)
    assert "origin" in answer.headers["vary"].lower()


async def test_a_preflight_is_answered_before_limits_and_without_a_key():
    async with open_suite(cors_origins=(APP,), max_concurrent_requests=1) as suite:
        suite.decode.admit.clear()
        running = asyncio.create_task(suite.chat())
        await wait_until(lambda: suite.decode.submits)
        assert (await preflight(suite)).status_code == 204
        shed = await suite.http.post(CHATS, json=chat_body(), headers={"origin": APP})
        assert (shed.status_code, shed.headers["access-control-allow-origin"]) == (429, APP)
        assert "retry-after" in shed.headers["access-control-expose-headers"]
        suite.decode.admit.set()
        assert (await running).status_code == 200


async def test_answers_errors_and_streams_can_be_read_by_a_listed_origin(open_door):
    asked = [
        ("POST", CHATS, json.dumps(chat_body()), 200), ("POST", CHATS, "{", 400), ("GET", CHATS, None, 405),
        ("POST", CHATS, json.dumps(chat_body(model="no")), 404), ("GET", "/nothing", None, 404),
        ("GET", "/health", None, 200), ("PUT", "/generate", '{"text": "x", "stream": true}', 200),
        ("OPTIONS", CHATS, None, 405),
    ]  # fmt: skip
    for method, path, body, status in asked:
        answer = await open_door.http.request(method, path, content=body, headers={"origin": APP})
        assert answer.status_code == status, answer.text
        assert answer.headers["access-control-allow-origin"] == APP
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "Origin"
    streamed = await open_door.http.post(CHATS, json=chat_body(stream=True), headers={"origin": APP})
    assert streamed.headers["access-control-allow-origin"] == APP
    assert len(parse_events(streamed.text)) > 2
    misdirected = await open_door.http.get("/", headers={"origin": APP, "host": "evil.test"})
    assert (misdirected.status_code, misdirected.headers["access-control-allow-origin"]) == (421, APP)


async def test_a_foreign_host_gets_no_answer_to_a_preflight(open_door):
    answer = await open_door.http.options(CHATS, headers={"origin": APP, "host": "evil.test", **ASKS})
    assert answer.status_code == 421


async def test_without_the_setting_nothing_is_added_and_a_preflight_is_an_unknown_method(suite):
    answer = await preflight(suite)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    for each in (answer, await suite.http.get("/v1/models", headers={"origin": APP})):
        assert not cors_headers(each)
        assert "vary" not in each.headers


async def test_a_star_lets_every_page_read_and_names_none():
    async with open_suite(cors_origins=("*",)) as suite:
        for origin in (APP, OTHER, "null"):
            assert (await preflight(suite, origin=origin)).headers["access-control-allow-origin"] == "*"
        answer = await suite.http.get("/v1/models")
        assert not cors_headers(answer)
        assert answer.headers["vary"] == "Origin"


def test_operators_have_a_port_that_no_page_reaches():
    for key in ("http_port", "grpc_port"):
        with pytest.raises(ConfigError, match=f"operator_port: 4000 is {key} too"):
            GatewayConfig(operator_port=4000, cors_origins=("*",), **{key: 4000})
    GatewayConfig(operator_port=0, http_port=0, grpc_port=0, cors_origins=("*",))


NO_ORIGINS = [
    ["example.org"], ["https://example.org/"], ["https://a.test/path"], ["*.example.org"], ["null"],
    ["*", "https://a.test"], ["https://"], ["https://a.test https://b.test"], ["https://u@a.test"],
]  # fmt: skip


@pytest.mark.parametrize("origins", NO_ORIGINS)
def test_what_is_no_origin_is_refused_by_name(origins):
    with pytest.raises(ConfigError, match="cors_origins"):
        Cors(origins)


@pytest.mark.parametrize("origin", ["HTTPS://App.Example.org", "app://obsidian.md", "http://[::1]:8080"])
def test_origins_of_any_scheme_are_taken(origin):
    Cors([origin])


READ = 'fetch("http://127.0.0.1:PORT/v1/models", {headers: {authorization: "Bearer x"}}).then(a => a.status)'


@needs_browser
async def test_in_a_browser_a_page_of_a_listed_origin_reads_and_another_does_not():
    async with open_suite() as pages, open_browser() as browser:
        page = f"http://localhost:{pages.gateway.http_port}"
        for origins, result in (((page,), 200), (("*",), 200), ((APP,), "TypeError: Failed to fetch")):
            async with open_suite(cors_origins=origins) as suite:
                await browser.go(f"{page}/v1/models")
                script = READ.replace("PORT", str(suite.gateway.http_port))
                assert await browser.resolve(script) == result
