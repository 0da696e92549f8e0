"""A gateway, and workers, installed without the extra `video`."""

import base64

import grpc
import pytest

from perigee.v1 import chat_pb2, chat_pb2_grpc
from services.common.errors import UnsupportedValue
from services.common.media import video_file
from services.common.rpc.status import from_rpc_error, to_status
from tests.gateway.fakes import FakeVision
from tests.gateway.media.download.raw_server import internet, page
from tests.gateway.pictures import picture
from tests.gateway.suite import open_suite
from tests.support.videos import film

REFUSAL = "this gateway reads no videos: it lacks the extra perigee[video]"
VIDEO = f"data:video/mp4;base64,{base64.b64encode(film()).decode()}"
IMAGE = f"data:image/png;base64,{base64.b64encode(picture(448, 448)).decode()}"


def message(*parts):
    return [{"role": "user", "content": [{"type": kind, kind: {"url": url}} for kind, url in parts]}]


@pytest.fixture
def without_video(monkeypatch):
    """As where `import av` fails."""
    monkeypatch.setattr(video_file, "av", None)


async def test_a_video_is_refused_by_its_field_and_the_extra_is_named(suite, without_video):
    messages = message(("image_url", IMAGE), ("video_url", VIDEO))
    for answer in (
        await suite.chat(messages=messages),
        await suite.http.post("/tokenize", json={"messages": messages}),
    ):
        assert answer.status_code == 400
        assert answer.json()["error"] == {
            "message": REFUSAL,
            "type": "invalid_request_error",
            "param": "messages[0].content[1].video_url.url",
            "code": "unsupported_value",
        }
    assert not suite.decode.submits
    assert not suite.vision.encoded


async def test_over_grpc_the_refusal_is_an_invalid_argument_with_the_same_reason(suite, without_video):
    part = chat_pb2.ContentPart(video=chat_pb2.Video(data=film()))
    request = chat_pb2.ChatRequest(messages=[chat_pb2.Message(role="user", content=[part])])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await chat_pb2_grpc.ChatServiceStub(suite.channel).Complete(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = from_rpc_error(caught.value)
    assert type(error) is UnsupportedValue
    assert (error.message, error.param) == (REFUSAL, "messages[0].content[0].video.data")


async def test_a_video_that_is_refused_is_not_fetched(without_video):
    async with (
        internet({"/video": page(film())}, {}) as net,
        open_suite(network=net[2], allowed_media_hosts="files.example") as suite,
    ):
        answer = await suite.chat(messages=message(("video_url", "http://files.example/video")))
        assert answer.json()["error"]["message"] == REFUSAL
        assert not net[0].asked


async def test_images_health_and_models_are_as_with_videos(suite, monkeypatch):
    paths = ("/health", "/ready", "/v1/models")
    before = [(await suite.http.get(path)).json() for path in paths]
    monkeypatch.setattr(video_file, "av", None)
    assert (await suite.chat(messages=message(("image_url", IMAGE)))).status_code == 200
    assert [(await suite.http.get(path)).json() for path in paths] == before


async def test_a_worker_s_refusal_reaches_the_client_with_his_own_field(monkeypatch):
    refusal = UnsupportedValue(
        "this vision worker reads no videos: it lacks the extra perigee[video]", "video"
    )

    async def encode_video(worker, request, context):
        status = to_status(refusal)
        await context.abort(status.code, status.details, status.trailing_metadata)

    monkeypatch.setattr(FakeVision, "EncodeVideo", encode_video)
    async with open_suite() as suite:
        answer = await suite.chat(messages=message(("video_url", VIDEO)))
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["message"], error["param"]) == (refusal.message, "messages[0].content[0].video_url.url")
