"""Deltas that have come together are joined, and nothing is lost or put in another order."""

import asyncio
import contextlib
import gc
import weakref
from types import SimpleNamespace

import pytest

from perigee.v1 import sampling_pb2
from services.common.errors import PerigeeError, WorkerLost
from services.families.kimi.output.parser import KimiParser
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.output import OutputRules
from services.gateway.pipeline.generation import Generation
from services.gateway.pipeline.output.choice import ChoiceDecoder
from services.gateway.workers.stream.token_delta import TokenDelta
from tests.gateway.access.keys import add_key
from tests.gateway.suite import chat_body, open_suite
from tests.support.waiting import let_tasks_run, until

STOP = sampling_pb2.FINISH_REASON_STOP


class Source:
    """Gives lists of deltas that were written down, then fails if it is to."""

    failovers = 0

    def __init__(self, *lists):
        self._lists = list(lists)
        self.finished = []
        self.shortcuts = {}
        self.outputs = [[]]

    async def next(self):
        item = self._lists.pop(0)
        if isinstance(item, Exception):
            raise item
        return item

    def finish(self, choice):
        self.finished.append(choice)


@pytest.fixture(scope="module")
def tokenizer(nano_dir):
    return KimiTokenizer.from_dir(nano_dir)


@pytest.fixture
def make(tokenizer):
    def made(source, n=1, stop=()):
        choices = [
            ChoiceDecoder(
                tokenizer,
                index,
                sampling_pb2.SamplingParams(),
                KimiParser(tokenizer, stop, OutputRules(in_reasoning=True)),
                silent_deltas=False,
            )
            for index in range(n)
        ]
        ticket = SimpleNamespace(tokens=lambda choice, now: None)
        return Generation(None, source, choices, None, ticket)

    return made


@pytest.fixture
def delta(tokenizer):
    def made(text, choice=0, finish=0):
        ids = tokenizer.encode(text, parse_special=text.startswith("<"))
        return TokenDelta(choice=choice, token_ids=ids, finish_reason=finish)

    return made


async def collect(generation):
    return [(each.index, each.reasoning, each.content, each.finish_reason) async for each in generation]


async def test_what_came_together_of_one_choice_is_one_delta_of_each_kind(make, delta):
    source = Source(
        [delta("Hm"), delta(", so"), delta("</think>"), delta("Yes")], [delta("!"), delta("", finish=STOP)]
    )
    assert await collect(make(source)) == [
        (0, "Hm, so", "", 0),
        (0, "", "Yes", 0),
        (0, "", "!", 0),
        (0, "", "", STOP),
    ]
    assert source.finished == [0]


async def test_choices_that_take_turns_stay_in_their_order(make, delta):
    one = [delta("a"), delta("b", 1), delta("c", 1), delta("d"), delta("", finish=STOP), delta("", 1, STOP)]
    found = await collect(make(Source(one), n=2))
    assert found == [(0, "a", "", 0), (1, "bc", "", 0), (0, "d", "", 0), (0, "", "", STOP), (1, "", "", STOP)]


async def test_what_comes_behind_a_stop_string_is_dropped(make, delta):
    source = Source([delta("</think>"), delta("one"), delta(" END"), delta(" two"), delta("", finish=STOP)])
    assert await collect(make(source, stop=("END",))) == [(0, "", "one ", 0), (0, "", "", STOP)]


async def test_text_that_came_before_a_failure_is_given_before_it(make, delta, tokenizer):
    unknown = TokenDelta(token_ids=[tokenizer.vocab_size])
    for source in (Source([delta("Hm")], WorkerLost("gone")), Source([delta("Hm"), unknown])):
        deltas = aiter(make(source))
        assert (await anext(deltas)).reasoning == "Hm"
        with pytest.raises(PerigeeError, match=r"gone|outside the vocabulary"):
            await anext(deltas)


class Sink:
    """Notes what it is given."""

    def __init__(self, tokenizer):
        self.open = True
        self.taken = []
        self._tokenizer = tokenizer

    def writer(self, choice, *, reasoning):
        def show(token_id):
            text = self._tokenizer.whole_text(token_id)
            if text:
                self.taken.append((choice, reasoning, text))
            return bool(text)

        return show if self.open else None


async def test_plain_tokens_go_to_a_sink_once_the_first_delta_is_shown(make, delta, tokenizer):
    source, sink = Source(), Sink(tokenizer)
    coming = asyncio.Queue()
    source.next = coming.get
    generation = make(source)
    generation.attach(sink)
    deltas = aiter(generation)

    async def next_delta():
        """The task that waits for it."""
        task = asyncio.create_task(anext(deltas))
        await let_tasks_run()
        return task

    [letter] = tokenizer.encode("a")
    coming.put_nowait([delta("Hm")])
    await anext(deltas)
    assert source.shortcuts == {}, "the caller has not shown it yet"
    following = await next_delta()
    assert source.shortcuts[0](letter, 1.0)
    for unfit in (tokenizer.special.end_think, tokenizer.vocab_size, tokenizer.encode("日")[0]):
        assert not source.shortcuts[0](unfit, 1.0)
    sink.open = False
    coming.put_nowait([delta("</think>")])
    await let_tasks_run()
    assert source.shortcuts == {}, "the way of reasoning is not the way of content"
    sink.open = True
    coming.put_nowait([delta("b")])
    assert (await following).content == "b"
    following = await next_delta()
    assert source.shortcuts[0](letter, 1.0)
    coming.put_nowait([delta("", finish=STOP)])
    await following
    await asyncio.gather(await next_delta(), return_exceptions=True)
    assert source.shortcuts == {}, "the choice has ended"
    assert sink.taken == [(0, True, "a"), (0, False, "a")]
    assert source.outputs == [[letter, letter]]


@contextlib.contextmanager
def watched_generations():
    """Weak references to the generations of the block and their sources; no garbage is collected in it."""
    seen, attach = [], Generation.attach

    def watch(generation, sink):
        seen.extend((weakref.ref(generation), weakref.ref(generation._source)))
        attach(generation, sink)

    gc.collect()
    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Generation, "attach", watch)
            yield seen
    finally:
        gc.enable()


async def test_nothing_of_a_request_waits_for_the_garbage_collector(suite):
    """A chat of megabytes is not to stay until the collector comes, which is seldom."""
    with watched_generations() as seen:
        await suite.stream()
        await until(lambda: [each() for each in seen] == [None, None])


async def test_nothing_of_a_tenants_request_waits_for_the_garbage_collector(tmp_path):
    headers = {"authorization": f"Bearer {add_key(tmp_path / 'keys.json', 'tenant')}"}
    async with open_suite(api_keys=str(tmp_path / "keys.json")) as suite:
        with watched_generations() as seen:
            await suite.http.post("/v1/chat/completions", json=chat_body(stream=True), headers=headers)
            await until(lambda: [each() for each in seen] == [None, None])
