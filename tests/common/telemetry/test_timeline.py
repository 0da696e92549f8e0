"""A timeline keeps the stages of one request."""

from services.common.telemetry.timeline import Timeline


def test_stages_of_one_name_count_together():
    timeline = Timeline()
    timeline.add("queue", 1.0, 3.0)
    timeline.add("render", 3.0, 3.5)
    timeline.add("queue", 4.0, 4.5)
    assert timeline.totals == {"queue": 2.5, "render": 0.5}
    assert timeline.seconds("queue") == 2.5
    assert timeline.seconds("prefill") == 0.0
    assert timeline.stages[0] == ("queue", 1.0, 3.0)


def test_a_stage_that_ends_before_it_begins_has_no_length():
    timeline = Timeline()
    timeline.add("transfer", 5.0, 4.0)
    assert timeline.stages == [("transfer", 5.0, 5.0)]


def test_it_keeps_some_stages_and_the_seconds_of_all():
    timeline = Timeline()
    for number in range(1000):
        timeline.add("decode", float(number), number + 1.0)
    assert len(timeline.stages) == 64
    assert timeline.seconds("decode") == 1000.0


def test_a_block_is_a_stage_even_if_it_fails():
    timeline = Timeline()
    try:
        with timeline.stage("encode"):
            raise ValueError
    except ValueError:
        pass
    assert list(timeline.totals) == ["encode"]
