"""Events made of templates are those that are encoded whole."""

import msgspec
import pytest

from perigee.v1 import sampling_pb2
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.output import CallPiece
from services.gateway.http.answers import openai as shape
from services.gateway.http.answers.chunks import ChunkEncoder
from services.gateway.http.answers.text_events import TokenTexts
from services.gateway.http.answers.usage_options import UsageOptions
from services.gateway.http.shapes.base import encode
from services.gateway.pipeline.output.events import ChoiceDelta, Completion

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
        {"content": "a", "logprobs": (LOGPROB,)},
        {"call": CallPiece(1, "functions.f:1", "f")},
        {"call": CallPiece(1, arguments="{}")},
        {"finish_reason": sampling_pb2.FINISH_REASON_LENGTH},
    ],
)
def test_every_chunk_is_the_one_that_is_encoded_whole(fields, usage):
    encoder = ChunkEncoder(HEAD, usage, Counted())
    assert encoder.alike is not usage.continuous
    for index in (0, 1, 0, 1):
        delta = ChoiceDelta(index, **fields)
        whole = shape.delta_chunk(HEAD, delta, usage.in_chunk(Counted()))
        assert encoder.delta(delta) == encode(whole)
    assert encoder.role(1) == encode(shape.role_chunk(HEAD, 1, usage.in_chunk(Counted())))


def test_the_texts_of_tokens_are_json_if_they_are_whole_characters(nano_dir):
    tokenizer = KimiTokenizer.from_dir(nano_dir)
    texts = TokenTexts(tokenizer)
    whole = {token_id for token_id in range(tokenizer.num_ranks) if texts[token_id]}
    for token_id in whole:
        assert msgspec.json.decode(texts[token_id]) == tokenizer.decode([token_id]) != ""
    assert "\ufffd" not in tokenizer.decode(sorted(whole))
    parts = set(range(tokenizer.num_ranks)) - whole
    assert parts
    assert all("\ufffd" in tokenizer.decode([token_id]) for token_id in parts)
    for token_id in (tokenizer.special.think, tokenizer.vocab_size, tokenizer.vocab_size + 5, -1):
        assert texts[token_id] == b""
    assert len(texts) == tokenizer.num_ranks + 1, "what is no token's is not kept"
