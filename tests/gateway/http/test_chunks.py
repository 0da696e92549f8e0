"""Events made of templates are those that are encoded whole."""

import orjson
import pytest

from perigee.v1 import sampling_pb2
from services.gateway.http import shape
from services.gateway.http.chunks import ChunkEncoder
from services.gateway.http.usage_options import UsageOptions
from services.gateway.pipeline.events import ChoiceDelta, Completion

HEAD = Completion('chatcmpl-"\0', 12, "a\0\\model")
LOGPROB = sampling_pb2.PositionLogprobs(sampled=sampling_pb2.TokenLogprob(token="a", logprob=-1))


class Counted:
    usage = sampling_pb2.Usage(prompt_tokens=3, completion_tokens=2)


@pytest.mark.parametrize(
    "usage", [UsageOptions(False, False), UsageOptions(True, False), UsageOptions(True, True)]
)
@pytest.mark.parametrize(
    "fields",
    [
        {"content": "Hello"},
        {"reasoning": "Hm"},
        {"content": '"\0\\ \n 🦉 \u2028'},
        {"content": "a", "reasoning": "b"},
        {"content": "a", "logprobs": (LOGPROB,)},
        {"content": "a", "finish_reason": sampling_pb2.FINISH_REASON_STOP},
        {"finish_reason": sampling_pb2.FINISH_REASON_LENGTH},
    ],
)
def test_every_chunk_is_the_one_that_is_encoded_whole(fields, usage):
    encoder = ChunkEncoder(HEAD, usage, Counted())
    for index in (0, 1, 0):
        delta = ChoiceDelta(index, **fields)
        whole = usage.dressed(shape.delta_chunk(HEAD, delta), Counted())
        assert encoder.delta(delta) == orjson.dumps(whole)
    assert encoder.role(1) == orjson.dumps(usage.dressed(shape.role_chunk(HEAD, 1), Counted()))
