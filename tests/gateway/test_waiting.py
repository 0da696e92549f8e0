"""Whoever waits longest makes room."""

from services.gateway.waiting import Waiting


def test_for_one_more_than_there_is_room_for_the_one_who_waited_longest_goes():
    waiting, gone = Waiting(2), []
    for name in "abc":
        waiting.enter(name, lambda name=name: gone.append(name))
    assert gone == ["a"]
    waiting.leave("b")
    waiting.leave("b")
    waiting.enter("d", lambda: gone.append("d"))
    assert gone == ["a"]
    waiting.enter("b", lambda: gone.append("b"))
    assert gone == ["a", "c"]
