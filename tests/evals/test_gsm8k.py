from __future__ import annotations

import io
import json

import httpx
import pytest

from evals.endpoint import Endpoint, Failed
from evals.gsm8k import Asker, Problem, last_number, read_problems, run, text_of
from evals.progress import ProgressBar

PROBLEMS = [Problem(f"What is {n} + 1?", f"It is <<{n}+1={n + 1}>>.\n#### {n + 1}") for n in range(8)]
REPLY = {
    "chat": lambda text: {"choices": [{"message": {"content": text}}]},
    "completions": lambda text: {"choices": [{"text": text}]},
    "generate": lambda text: {"text": text, "meta_info": {"completion_tokens": 3}},
}
PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "generate": "/generate"}


def prompt_in(body):
    return body.get("text") or body.get("prompt") or body["messages"][0]["content"]


@pytest.mark.parametrize("api", REPLY)
async def test_right_answers_are_counted_on_every_api(api):
    asked = []

    def answer(request):
        assert request.url.path == PATHS[api]
        prompt = prompt_in(json.loads(request.content))
        asked.append(prompt)
        n = int(prompt.rpartition("What is ")[2].split()[0])
        # Wrong for two of the eight, no number for another.
        text = "I do not know." if n == 5 else f" It is {n + 1 + (n < 2)}."
        return httpx.Response(200, json=REPLY[api](text))

    endpoint = Endpoint("http://test", httpx.MockTransport(answer))
    examples = "".join(problem.worked() for problem in PROBLEMS[:2])
    asker = Asker(endpoint, api, "m", examples, 50)
    result = await run(asker, PROBLEMS, 3, ProgressBar(8, io.StringIO()))
    await endpoint.close()
    assert (result["right"], result["questions"], result["without_number"]) == (5, 8, 1)
    assert result["interval"][0] < 5 / 8 < result["interval"][1]
    assert all(prompt.startswith("Question: What is 0 + 1?\nAnswer: It is") for prompt in asked)
    assert all(prompt.endswith("?\nAnswer:") for prompt in asked)


async def test_a_refused_question_ends_the_run():
    endpoint = Endpoint("http://test", httpx.MockTransport(lambda request: httpx.Response(404, text="no")))
    with pytest.raises(Failed, match="404 no"):
        await run(Asker(endpoint, "chat", "m", "", 5), PROBLEMS, 2, ProgressBar(8, io.StringIO()))
    await endpoint.close()


def test_an_answer_of_another_form_is_named():
    with pytest.raises(Failed, match="no answer in"):
        text_of("completions", {"choices": []})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("a 1 b 2.50 c", 2.5),
        ("#### 1,200", 1200),
        ("-3.", -3),
        ("none", None),
        ("10.0", 10),
        ("half of it, .5", 0.5),
        ("1/2", 0.5),
        ("1 1/2 cups", 1.5),
    ],
)
def test_the_last_number_of_a_text(text, number):
    assert last_number(text) == number


def test_a_line_that_is_no_problem_is_named(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"question": "q", "answer": "#### 1"}\n{"question": "q"}\n')
    with pytest.raises(ValueError, match=r"data\.jsonl, line 2"):
        read_problems(path)


@pytest.mark.parametrize("answer", ["It is 3.\n#### none", "none at all"])
def test_a_problem_whose_answer_has_no_number_is_refused(tmp_path, answer):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"question": "q", "answer": answer}))
    with pytest.raises(ValueError, match=r"line 1: the answer has no number behind ####"):
        read_problems(path)


def test_the_published_questions_are_read(shared_dir):
    problems = read_problems(shared_dir / "data" / "gsm8k" / "test.jsonl")
    assert len(problems) == 1319
    assert problems[0].gold == 18
    assert all(problem.gold is not None for problem in problems)
