"""What watchers of a cache are told."""

import random

import pytest

from services.common.page_hash import short_name
from services.engine.kv_cache.cache_journal import CacheJournal, Changes
from services.engine.kv_cache.page_pool import PagePool
from services.engine.kv_cache.prefix_cache import PrefixCache


def entry(number: int) -> bytes:
    return number.to_bytes(16, "little")


class Watcher:
    """Follows a journal as a gateway does."""

    def __init__(self, journal: CacheJournal) -> None:
        self.journal = journal
        self.cursor: int | None = None
        self.known: set[int] = set()
        self.resets = 0

    def look(self) -> Changes:
        changes, self.cursor = self.journal.since(self.cursor)
        if changes.reset:
            self.known.clear()
            self.resets += 1
        self.known |= set(changes.added)
        self.known -= set(changes.removed)
        return changes


def test_a_new_watcher_is_told_everything_at_once():
    journal = CacheJournal()
    for number in range(5):
        journal.added(entry(number))
    journal.removed(entry(2))
    changes, _ = journal.since(None)
    assert changes.reset
    assert sorted(changes.added) == [0, 1, 3, 4]


def test_afterwards_only_changes_are_told_and_each_once():
    journal = CacheJournal()
    watcher = Watcher(journal)
    watcher.look()
    journal.added(entry(1))
    assert watcher.look() == Changes(reset=False, added=(1,))
    assert not watcher.look()


def test_what_came_and_went_between_two_looks_ends_as_removed():
    journal = CacheJournal()
    watcher = Watcher(journal)
    watcher.look()
    journal.added(entry(7))
    journal.removed(entry(7))
    assert watcher.look() == Changes(reset=False, removed=(7,))


def test_a_watcher_that_fell_behind_is_told_everything_anew():
    journal = CacheJournal(memory=4)
    watcher = Watcher(journal)
    watcher.look()
    for number in range(10):
        journal.added(entry(number))
    assert watcher.look().reset
    assert watcher.known == set(range(10))


@pytest.mark.parametrize("memory", [3, 8, 1000])
def test_watchers_know_what_is_there_whenever_they_look(memory):
    draw = random.Random(memory)
    journal = CacheJournal(memory)
    watchers = [Watcher(journal) for _ in range(3)]
    present: set[int] = set()
    for _ in range(500):
        number = draw.randrange(20)
        if number in present:
            present.discard(number)
            journal.removed(entry(number))
        else:
            present.add(number)
            journal.added(entry(number))
        watcher = draw.choice(watchers)
        if draw.random() < 0.3:
            watcher.look()
            assert watcher.known == present


def test_a_prefix_cache_tells_what_it_finds_and_what_was_evicted():
    pool = PagePool(2)
    cache = PrefixCache(pool)
    watcher = Watcher(cache.journal)
    pages = pool.allocate(2)
    for number, page in enumerate(pages):
        cache.insert(entry(number), page)
    watcher.look()
    assert watcher.known == {short_name(entry(0)), short_name(entry(1))}
    pool.release(pages)
    pool.allocate(1)
    watcher.look()
    assert watcher.known == {short_name(entry(0))}
