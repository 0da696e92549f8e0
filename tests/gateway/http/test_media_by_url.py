"""Images and videos by URL, through the doors."""

import base64

import pytest

from perigee.v1 import chat_pb2, chat_pb2_grpc
from services.families.kimi.media import image_grid
from tests.gateway.media.download.raw_server import internet, page
from tests.gateway.pictures import picture
from tests.gateway.suite import open_suite
from tests.support.videos import film

IMAGE = "http://files.example/image"


def message(*urls, kind="image_url"):
    return [{"role": "user", "content": [{"type": kind, kind: {"url": url}} for url in urls]}]


@pytest.fixture
async def net():
    pages = {
        "/image": page(picture(448, 448), Content_Type="text/plain"),
        "/video": page(film(num_frames=33)),
        "/page": page(b"<html>secret</html>", Content_Type="image/png"),
        "/large": page(picture(1000, 1000)),
    }
    async with internet(pages, {"inside.example": [["10.0.0.1"]]}) as net:
        yield net


@pytest.fixture
async def web(net):
    hosts = "files.example,inside.example"
    async with open_suite(network=net[2], allowed_media_hosts=hosts, max_image_pixels=500_000) as suite:
        yield suite


async def test_an_image_by_url_is_the_same_as_its_bytes(web, net):
    answer = await web.chat(messages=message(IMAGE, IMAGE))
    assert answer.status_code == 200, answer.text
    by_url = web.decode.submits[-1]
    assert [medium.num_tokens for medium in by_url.media] == [image_grid(448, 448).num_tokens] * 2
    data = base64.b64encode(picture(448, 448)).decode()
    await web.chat(messages=message(*[f"data:image/png;base64,{data}"] * 2))
    assert web.decode.submits[-1].prompt_token_ids == by_url.prompt_token_ids
    assert len(net[0].asked) == 1


async def test_a_video_by_url_is_fetched_too(web):
    answer = await web.chat(messages=message("http://files.example/video", kind="video_url"))
    assert answer.json()["usage"]["prompt_tokens_details"]["video_tokens"] == 24


def both(url):
    parts = [{"type": kind, kind: {"url": url}} for kind in ("image_url", "video_url")]
    return [{"role": "user", "content": parts}]


@pytest.mark.parametrize(
    ("bounds", "named"),
    [
        ({"max_image_bytes": 200}, "content[0].image_url.url"),
        ({"max_video_bytes": 200}, "content[0].image_url.url"),
    ],
)
async def test_a_url_used_twice_is_fetched_under_the_larger_bound_and_held_to_its_own(net, bounds, named):
    async with open_suite(network=net[2], allowed_media_hosts="files.example", **bounds) as suite:
        answer = await suite.chat(messages=both("http://files.example/video"))
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == f"messages[0].{named}"
        # It has come whole: what is wrong with it is said by those who read it.
        assert "the file is larger" not in error["message"]
        assert len(net[0].asked) == 1


async def test_tokenizing_and_grpc_fetch_too(web):
    made = (await web.http.post("/tokenize", json={"messages": message(IMAGE)})).json()
    part = chat_pb2.ContentPart(image=chat_pb2.Image(url=IMAGE))
    request = chat_pb2.ChatRequest(messages=[chat_pb2.Message(role="user", content=[part])])
    answer = await chat_pb2_grpc.ChatServiceStub(web.channel).Complete(request)
    assert answer.usage.prompt_tokens == made["count"]
    assert answer.usage.image_tokens == 256


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://files.example/page", None),
        ("http://files.example/large", None),
        ("http://evil.example/image", "unsupported_value"),
        ("http://inside.example/image", "unsupported_value"),
        ("file:///etc/passwd", "unsupported_value"),
    ],
)
async def test_a_url_that_leads_to_no_image_is_refused_by_its_field(web, url, code):
    answer = await web.chat(messages=message(IMAGE, url))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("messages[0].content[1].image_url.url", code)
    assert "secret" not in error["message"]
    assert not web.decode.submits


async def test_more_images_than_taken_are_not_fetched(net):
    async with open_suite(network=net[2], allowed_media_hosts="files.example", max_images=1) as suite:
        assert (await suite.chat(messages=message(IMAGE, IMAGE))).status_code == 400
        assert not net[0].asked


async def test_by_default_nothing_is_fetched(net):
    async with open_suite(network=net[2]) as suite:
        answer = await suite.chat(messages=message(IMAGE))
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "unsupported_value"
        assert not net[0].asked
