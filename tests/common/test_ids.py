import re

from services.common import ids


def test_two_ids_are_never_the_same():
    for make in (ids.request_id, ids.completion_id, lambda: ids.incarnation("decode")):
        assert make() != make()


def test_ids_tell_what_they_name():
    assert re.fullmatch(r"req-[0-9a-f]{32}", ids.request_id())
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{32}", ids.completion_id())
    assert re.fullmatch(r"cmpl-[0-9a-f]{32}", ids.completion_id(chat=False))
    assert re.fullmatch(r"prefill-[0-9a-f]{32}", ids.incarnation("prefill"))
