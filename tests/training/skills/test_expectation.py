from __future__ import annotations

import pytest

from training.skills.expectation import Call, Expectation


@pytest.mark.parametrize(
    ("kind", "values", "right", "wrong"),
    [
        ("first number", ("9.9",), "9.9 is bigger than 9.11.", "9.11 is bigger than 9.9."),
        ("last number", ("12",), "So 5 and 7 make 12.", "12 or 13."),
        ("contains", ("22", "sunny"), "It is 22 degrees and Sunny.", "It is 22.5 degrees and sunny."),
        ("contains", ("3.5",), "It costs $3.5.", "It costs 13.5."),
        ("contains", ("3",), "It costs 3.", "It costs 2.3."),
        ("exact", ("a b",), " a b\n", "a b c"),
        ("json", ('{"a": 1, "b": "x"}',), '{"b":"x","a":1}', '{"a": "1", "b": "x"}'),
        ("json", ("{}",), "{}", "no JSON"),
        ("json", ('{"a": 1}',), '{"a": 1.0}', '{"a": true}'),
        ("json", ('{"a": 1}',), '{"a": 1}', '{"a": 2, "a": 1}'),
        ("json", ('{"a": [1, 0]}',), '{"a": [1, 0]}', '{"a": [true, false]}'),
        ("contains", ("5",), "It is 5.", "It is -5."),
        ("contains", ("5",), "It is 5.", "It is 5-6."),
        ("contains", ("300",), "It is 300.", "It is 1,300."),
        ("contains", ("300",), "It is 300.", "It is 300,000."),
        ("contains", ("3",), "3, I think.", "2 or 3 or 4"),
        (
            "contains",
            ("2024-05-12", "3.20"),
            "On 2024-05-12 it was $3.20.",
            "On 2024-05-12 it was $3.20 or $4.",
        ),
        ("contains", ("no tool",), "There is no tool for 3 cities.", "There is a tool."),
        ("last number", ("300",), "So it is 300.0", "So it is 1,300"),
        ("first number", ("0.5",), ".5 is less", "5 is less"),
    ],
)
def test_texts(kind, values, right, wrong):
    assert Expectation(kind, values).met_by(right, ())
    assert not Expectation(kind, values).met_by(wrong, ())


def test_a_call_that_was_not_wanted_is_wrong_whatever_the_text_says():
    assert not Expectation("contains", ("yes",)).met_by("yes", [Call("f", {})])


def test_calls_count_in_any_order_and_all_of_them():
    wanted = Expectation("calls", calls=(Call("f", {"a": 1, "b": 2}), Call("f", {"a": 3})))
    assert wanted.met_by("", [Call("f", {"a": 3}), Call("f", {"b": 2, "a": 1})])
    assert not wanted.met_by("", [Call("f", {"a": 3})])
    assert not wanted.met_by("", [Call("f", {"a": "3"}), Call("f", {"b": 2, "a": 1})])


def test_one_and_true_are_different_arguments():
    assert not Expectation("calls", calls=(Call("f", {"a": 1}),)).met_by("", [Call("f", {"a": True})])
