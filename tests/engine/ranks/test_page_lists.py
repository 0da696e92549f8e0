"""What the processes of a group are told of page lists."""

import random

from services.engine.ranks.page_lists import PageListReceiver, PageListSender
from services.engine.ranks.rank_messages import RankWork, encode
from tests.support.batches import batch_of


def step_of(sequences):
    """A batch from (pages, context length), one token each."""
    return batch_of([([1], length - 1, pages, True) for pages, length in sequences])


def test_the_other_side_has_every_sequences_pages_however_they_come_and_go():
    dice = random.Random(4)
    sender, receiver = PageListSender(), PageListReceiver()
    running = []
    for _ in range(400):
        if running and dice.random() < 0.2:
            running.pop(dice.randrange(len(running)))
        if len(running) < 6 and dice.random() < 0.4:
            running.append([[dice.randrange(1000) for _ in range(dice.randint(1, 3))], 1])
        dice.shuffle(running)
        for sequence in running:
            sequence[1] += dice.choice((1, 1, 1, 64))
            while len(sequence[0]) * 64 < sequence[1]:
                sequence[0].append(dice.randrange(1000))
        # Who is not in a batch is in a later one again.
        chosen = [sequence for sequence in running if dice.random() < 0.8]
        batch = step_of(chosen)
        found = receiver.unpack(sender.pack(batch.sequences))
        for (pages, length), sequence in zip(chosen, found, strict=True):
            assert (sequence.num_tokens, sequence.context_len) == (1, length)
            assert sequence.pages[: -(-length // 64)] == pages[: -(-length // 64)]
            assert len(sequence.pages) >= -(-length // 64)


def test_a_step_tells_of_new_pages_alone_however_long_the_contexts():
    sender, receiver = PageListSender(), PageListReceiver()
    pages = list(range(4000))
    first = receiver.unpack(sender.pack(step_of([(pages, 255_999)]).sequences))
    step = step_of([(pages, 256_000)])
    parts = sender.pack(step.sequences)
    assert parts[0].new_pages == ()
    assert len(encode(RankWork.of(step, parts, ()))) < 100
    assert receiver.unpack(parts)[0].pages is first[0].pages
    pages.append(7)
    assert sender.pack(step_of([(pages, 256_001)]).sequences)[0].new_pages == (7,)


def test_pages_beyond_the_context_may_still_change():
    sender, receiver = PageListSender(), PageListReceiver()
    pages = [1, 2]
    receiver.unpack(sender.pack(step_of([(pages, 64)]).sequences))
    pages[1] = 3
    found = receiver.unpack(sender.pack(step_of([(pages, 65)]).sequences))
    assert found[0].pages == [1, 3]


def test_two_sequences_may_have_one_list():
    sender, receiver = PageListSender(), PageListReceiver()
    pages = [1, 2, 3]
    for _ in range(2):
        found = receiver.unpack(sender.pack(step_of([(pages, 64), (pages, 150)]).sequences))
        assert [list(sequence.pages) for sequence in found] == [[1, 2, 3], [1, 2, 3]]
