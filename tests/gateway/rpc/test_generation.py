"""GenerationService: text and token ids without the chat format."""

import grpc
import pytest

from perigee.v1 import generation_pb2, generation_pb2_grpc, sampling_pb2
from services.common.errors import InvalidRequest
from services.common.rpc.status import from_rpc_error
from services.gateway.pipeline.prompt.tokenizing import MAX_BYTES
from tests.gateway.suite import open_suite, wait_until


@pytest.fixture
def generation(suite):
    return generation_pb2_grpc.GenerationServiceStub(suite.channel)


def request(**fields):
    return generation_pb2.GenerateRequest(**fields)


async def test_a_text_is_continued_as_it_stands(suite, generation):
    suite.say(" upon a time</think> 🙂")
    answer = await generation.Generate(request(text="Once<|im_end|>"))
    submit = suite.decode.submits[0]
    assert list(submit.prompt_token_ids) == suite.tokenizer.encode("Once<|im_end|>")
    assert submit.sampling.temperature == pytest.approx(1.0)
    choice = answer.choices[0]
    assert choice.text == " upon a time</think> 🙂"
    assert choice.token_ids[-1] in suite.tokenizer.stop_ids
    assert answer.usage.completion_tokens == len(choice.token_ids)
    assert answer.usage.reasoning_tokens == 0


async def test_special_strings_are_control_tokens_where_they_are_to_be_parsed(suite, generation):
    await generation.Generate(request(text="a<|im_end|>", parse_special=True))
    assert suite.decode.submits[0].prompt_token_ids[-1] == suite.tokenizer.special.im_end


async def test_chunks_add_up_to_the_whole_answer(suite, generation):
    suite.say("one 🙂 two 日本 three")
    asked = request(text="x", sampling=sampling_pb2.SamplingParams(n=2, logprobs=True))
    whole = await generation.Generate(asked)
    chunks = [chunk async for chunk in generation.StreamGenerate(asked)]
    for index, choice in enumerate(whole.choices):
        deltas = [delta for chunk in chunks for delta in chunk.deltas if delta.index == index]
        assert "".join(delta.text for delta in deltas) == choice.text == "one 🙂 two 日本 three"
        assert [i for delta in deltas for i in delta.token_ids] == list(choice.token_ids)
        assert [p for delta in deltas for p in delta.logprobs] == list(choice.logprobs)
    assert chunks[-1].usage == whole.usage
    assert not chunks[-1].deltas


async def test_log_probabilities_of_the_prompt_come_whole_or_before_the_first_delta_in_chunks(
    suite, generation
):
    suite.say("!")
    ids = [token % 2000 for token in range(600)]
    options = generation_pb2.PromptLogprobsOptions(first_token=2, top_logprobs=1)
    asked = request(token_ids=generation_pb2.TokenIds(ids=ids), prompt_logprobs=options)
    whole = await generation.Generate(asked)
    chunks = [chunk async for chunk in generation.StreamGenerate(asked)]
    assert [each.token.token_id for each in whole.prompt_logprobs] == ids[2:]
    assert [each.token.logprob for each in whole.prompt_logprobs] == [-place / 8 for place in range(2, 600)]
    assert all(
        each.scored and len(each.top) == 1 and each.token.token_bytes for each in whole.prompt_logprobs
    )
    assert [each for chunk in chunks for each in chunk.prompt_logprobs] == list(whole.prompt_logprobs)
    sizes = [len(chunk.prompt_logprobs) for chunk in chunks]
    assert sizes[:3] == [256, 256, 86]
    assert not any(sizes[3:])


async def test_token_0_of_a_prompt_is_not_scored(suite, generation):
    options = generation_pb2.PromptLogprobsOptions()
    answer = await generation.Generate(request(text="a b c", prompt_logprobs=options))
    first, *others = answer.prompt_logprobs
    assert (first.scored, first.rank, first.token.token) == (False, 0, "a")
    assert all(each.scored and not each.top for each in others)
    assert others


@pytest.mark.parametrize(("first", "top", "field"), [(3, 0, "first_token"), (0, 21, "top_logprobs")])
async def test_a_wrong_option_is_refused_by_its_name(suite, generation, first, top, field):
    options = generation_pb2.PromptLogprobsOptions(first_token=first, top_logprobs=top)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await generation.Generate(
            request(token_ids=generation_pb2.TokenIds(ids=[1, 2, 3]), prompt_logprobs=options)
        )
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidRequest)
    assert error.param == f"prompt_logprobs.{field}"
    assert not suite.decode.submits


async def test_the_finish_of_a_stream_comes_without_text(suite, generation):
    suite.decode.tokens_per_delta = 1000
    chunks = [chunk async for chunk in generation.StreamGenerate(request(text="x"))]
    [text, last] = [delta for chunk in chunks for delta in chunk.deltas]
    assert (text.text, text.finish_reason) == ("Thinking.</think>Hello!", 0)
    assert (last.text, last.finish_reason) == ("", sampling_pb2.FINISH_REASON_STOP)


async def test_token_ids_are_taken_as_they_are(suite, generation):
    ids = [1, suite.tokenizer.special.im_end, 2]
    await generation.Generate(request(token_ids=generation_pb2.TokenIds(ids=ids)))
    assert list(suite.decode.submits[0].prompt_token_ids) == ids


async def test_a_decode_worker_is_told_its_own_address(suite, generation):
    await generation.Generate(request(text="x"))
    assert suite.decode.submits[0].own_address == suite.workers["decode0"].address


async def test_a_stop_token_of_the_caller_s_is_in_the_ids_and_not_in_the_text(suite, generation):
    ids = suite.tokenizer.encode("red green")
    suite.decode.script = lambda submit, choice: ids
    sampling = sampling_pb2.SamplingParams(stop_token_ids=[ids[-1]])
    choice = (await generation.Generate(request(text="x", sampling=sampling))).choices[0]
    assert list(choice.token_ids) == ids
    assert choice.text == suite.tokenizer.decode(ids[:-1])
    assert choice.finish_reason == sampling_pb2.FINISH_REASON_STOP


async def test_no_tokens_may_be_asked_for(suite, generation):
    suite.decode.script = lambda submit, choice: []
    sampling = sampling_pb2.SamplingParams(max_tokens=0)
    answer = await generation.Generate(request(text="x", sampling=sampling))
    assert answer.choices[0].text == ""
    assert answer.choices[0].finish_reason == sampling_pb2.FINISH_REASON_LENGTH
    assert answer.usage.completion_tokens == 0


async def test_a_wrong_prompt_is_refused(suite, generation):
    pads = generation_pb2.TokenIds(ids=[1, suite.tokenizer.special.media_pad])
    beyond = generation_pb2.TokenIds(ids=[suite.tokenizer.vocab_size])
    for wrong in (
        request(),
        request(text=""),
        request(token_ids=generation_pb2.TokenIds()),
        request(token_ids=pads),
        request(token_ids=beyond),
        request(text="x", sampling=sampling_pb2.SamplingParams(n=99)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await generation.Generate(wrong)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert not suite.decode.submits


async def test_tokenizing_and_back_is_the_identity(suite, generation):
    text = "Hello, Wörld! 你好 <|im_end|> " + "long " * 5000
    ids = (await generation.Tokenize(generation_pb2.TokenizeRequest(text=text))).token_ids
    back = await generation.Detokenize(generation_pb2.DetokenizeRequest(token_ids=ids))
    assert back.text == text
    assert suite.tokenizer.special.im_end not in ids


async def test_special_tokens_are_parsed_and_skipped_on_request(suite, generation):
    special = suite.tokenizer.special
    asked = generation_pb2.TokenizeRequest(text="a<|im_end|></think>", parse_special=True)
    ids = list((await generation.Tokenize(asked)).token_ids)
    assert ids[-2:] == [special.im_end, special.end_think]
    shown = await generation.Detokenize(generation_pb2.DetokenizeRequest(token_ids=ids))
    skipped = await generation.Detokenize(generation_pb2.DetokenizeRequest(token_ids=ids, skip_special=True))
    assert (shown.text, skipped.text) == ("a<|im_end|></think>", "a</think>")


async def test_an_unknown_id_or_model_is_refused(suite, generation):
    beyond = generation_pb2.DetokenizeRequest(token_ids=[0, suite.tokenizer.vocab_size])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await generation.Detokenize(beyond)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await generation.Tokenize(generation_pb2.TokenizeRequest(model="nobody"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_tokenizing_is_admitted_like_everything_else():
    async with open_suite(max_concurrent_requests=1) as suite:
        suite.decode.admit.clear()
        stub = generation_pb2_grpc.GenerationServiceStub(suite.channel)
        held = stub.Generate(request(text="x"))
        await wait_until(lambda: suite.decode.submits)
        for call in (
            stub.Tokenize(generation_pb2.TokenizeRequest(text="x")),
            stub.Detokenize(generation_pb2.DetokenizeRequest(token_ids=[1])),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await suite.http.post("/tokenize", json={"prompt": "x"})).status_code == 429
        held.cancel()


async def test_more_text_than_is_tokenized_is_refused(suite, generation):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await generation.Tokenize(generation_pb2.TokenizeRequest(text="x" * MAX_BYTES))
    error = from_rpc_error(caught.value)
    assert (type(error), error.param) == (InvalidRequest, "text")
