"""/tokenize and /detokenize of a gateway with workers."""

import pytest

from services.gateway.pipeline.prompt.tokenizing import MAX_BYTES
from tests.gateway.pictures import data_url, image_part, picture
from tests.gateway.suite import CONTEXT_LENGTH, chat_body, open_suite

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
BODIES = {
    "text": {},
    "tools": {"tools": TOOLS},
    "tools that are not to be used": {"tools": TOOLS, "tool_choice": "none"},
    "no thinking, engines' way": {"chat_template_kwargs": {"thinking": False}},
    "no thinking, Moonshot's way": {"thinking": {"type": "disabled"}},
    "images": {
        "messages": [
            {"role": "user", "content": [image_part(picture(300, 200)), {"type": "text", "text": "and"},
                                         image_part(picture(30, 90))]}
        ]
    },
    "a foreign call": {
        "messages": [
            {"role": "user", "content": "Add."},
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "2"},
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("fields", BODIES.values(), ids=BODIES)
async def test_a_chat_body_counts_what_the_chat_would_use(suite, fields):
    body = chat_body(model="kimi-alias", **fields)
    made = (await suite.http.post("/tokenize", json=body)).json()
    usage = (await suite.http.post("/v1/chat/completions", json=body)).json()["usage"]
    assert made["count"] == len(made["tokens"]) == usage["prompt_tokens"]
    assert made["tokens"] == list(suite.decode.submits[0].prompt_token_ids)
    assert made["max_model_len"] == CONTEXT_LENGTH


async def test_an_image_is_one_pad_in_the_text_and_all_of_them_in_the_tokens(suite):
    body = chat_body(messages=[{"role": "user", "content": [image_part(picture(300, 200))]}])
    made = (await suite.http.post("/tokenize", json=body)).json()
    assert made["text"].count("<|media_pad|>") == 1
    assert made["tokens"].count(suite.tokenizer.special.media_pad) == 11 * 8


async def test_images_are_counted_where_nobody_encodes_them():
    async with open_suite(vision=False) as suite:
        body = chat_body(messages=[{"role": "user", "content": [image_part(picture(56, 28))]}])
        made = (await suite.http.post("/tokenize", json=body)).json()
        assert made["tokens"].count(suite.tokenizer.special.media_pad) == 2


async def test_the_assistants_turn_is_opened_unless_told_otherwise(suite):
    opened = (await suite.http.post("/tokenize", json=chat_body())).json()
    assert (await suite.http.post("/tokenize", json=chat_body(add_generation_prompt=True))).json() == opened
    left = (await suite.http.post("/tokenize", json=chat_body(add_generation_prompt=False))).json()
    assert left["text"] == "<|im_user|>user<|im_middle|>Hi<|im_end|>"
    assert opened["text"] == left["text"] + "<|im_assistant|>assistant<|im_middle|><think>"


async def test_special_strings_of_a_prompt_are_text_unless_to_be_parsed(suite):
    text = "a<|im_end|>"
    plain = (await suite.http.post("/v1/tokenize", json={"prompt": text})).json()
    assert plain["tokens"] == suite.tokenizer.encode(text)
    parsed = (await suite.http.post("/v1/tokenize", json={"prompt": text, "parse_special": True})).json()
    assert parsed["tokens"][-1] == suite.tokenizer.special.im_end
    assert plain["text"] == parsed["text"] == text


async def test_flagged_tokens_are_left_out_on_request(suite):
    ids = suite.tokenizer.encode("<think>a<|im_end|>", parse_special=True)
    whole = await suite.http.post("/v1/detokenize", json={"tokens": ids})
    assert whole.json()["text"] == whole.json()["prompt"] == "<think>a<|im_end|>"
    short = await suite.http.post("/v1/detokenize", json={"tokens": ids, "skip_special_tokens": True})
    assert short.json()["text"] == "<think>a"


async def test_an_empty_prompt_has_no_tokens(suite):
    made = (await suite.http.post("/tokenize", json={"prompt": ""})).json()
    assert (made["tokens"], made["count"], made["text"]) == ([], 0, "")


async def test_a_prompt_beyond_the_context_is_counted(suite):
    made = (await suite.http.post("/tokenize", json={"prompt": "word " * CONTEXT_LENGTH})).json()
    assert made["count"] > made["max_model_len"]


BAD = [
    ("/tokenize", {}, 400, "prompt", None),
    ("/tokenize", {"prompt": "x", "messages": []}, 400, "prompt", None),
    ("/tokenize", {"prompt": None, "messages": None}, 400, "prompt", None),
    ("/tokenize", {"prompt": ["x"]}, 400, "prompt", None),
    ("/tokenize", {"prompt": "x", "model": "nobody"}, 404, "model", "model_not_found"),
    ("/tokenize", {"prompt": "x", "return_token_strs": True}, 400, "return_token_strs", "unsupported_value"),
    ("/tokenize", {"prompt": "x", "truncate_prompt_tokens": 5}, 400, "truncate_prompt_tokens",
     "unsupported_value"),
    ("/tokenize", {"messages": [], "parse_special": True}, 400, "parse_special", "unsupported_value"),
    ("/tokenize", {"messages": {}}, 400, "messages", None),
    ("/tokenize", {"messages": [{"role": "wizard"}]}, 400, "messages[0].role", None),
    ("/tokenize", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "http://x"}]}]},
     400, "messages[0].content[0].image_url", "unsupported_value"),
    ("/tokenize", {"messages": [], "continue_final_message": True}, 400, "continue_final_message", None),
    ("/tokenize", {"messages": [], "chat_template": "x"}, 400, "chat_template", "unsupported_value"),
    ("/detokenize", {}, 400, "tokens", None),
    ("/detokenize", {"tokens": [1, 2304]}, 400, "tokens[1]", None),
    ("/detokenize", {"tokens": [-1]}, 400, "tokens[0]", None),
    ("/detokenize", {"tokens": [10**30]}, 400, "tokens[0]", None),
    ("/detokenize", {"tokens": ["x"]}, 400, "tokens[0]", None),
    ("/detokenize", {"tokens": [1], "model": "nobody"}, 404, "model", "model_not_found"),
]  # fmt: skip


async def test_a_wrong_body_is_refused_by_field(suite):
    for path, body, status, param, code in BAD:
        answer = await suite.http.post(path, json=body)
        assert answer.status_code == status, (body, answer.text)
        error = answer.json()["error"]
        assert (error["param"], error["code"]) == (param, code), (body, error)
        assert error["message"]


async def test_neutral_values_of_engines_fields_are_accepted(suite):
    for body in (
        {"prompt": "x", "add_special_tokens": True, "return_token_strs": False, "mm_processor_kwargs": {}},
        chat_body(add_special_tokens=False, continue_final_message=False, chat_template=None, stream=False),
    ):
        assert (await suite.http.post("/tokenize", json=body)).status_code == 200


async def test_more_text_than_is_tokenized_is_refused_and_an_image_is_no_text(suite):
    answer = await suite.http.post("/tokenize", json={"prompt": "x" * MAX_BYTES})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt"
    answer = await suite.http.post("/detokenize", json={"tokens": [100] * MAX_BYTES})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tokens")
    padded = data_url(picture() + bytes(MAX_BYTES))
    parts = [{"type": "image_url", "image_url": {"url": padded}}]
    answer = await suite.http.post("/tokenize", json=chat_body(messages=[{"role": "user", "content": parts}]))
    assert answer.status_code == 200


async def test_tokenizing_counts_as_a_request():
    async with open_suite(max_body_bytes=100) as suite:
        assert (await suite.http.post("/tokenize", json={"prompt": "x" * 100})).status_code == 413
        assert (await suite.http.post("/tokenize", json={"prompt": "x"})).status_code == 200
        page = (await suite.http.get("/metrics")).text
        assert 'perigee_requests_total{door="rest",outcome="ok"} 1.0' in page
        assert 'perigee_requests_total{door="rest",outcome="invalid"} 1.0' in page


async def test_a_tokenizer_that_takes_too_long_is_not_waited_for():
    async with open_suite(request_timeout_seconds=0.02) as suite:
        answer = await suite.http.post("/tokenize", json={"prompt": "Déjà vu 你好! " * 100_000})
        assert answer.status_code == 504
