"""More values than any request needs are refused by the name of their field, wherever they are put."""

EMPTY = b"{}," * (1 << 16) + b"{}"
WORDS = b'"ab",' * (1 << 18) + b'"ab"'
IDS = b"7," * (1 << 21) + b"7,7"
KEYS = b",".join(b'"%d":0' % number for number in range((1 << 18) + 1))

CASES = [
    ("/v1/chat/completions", b'{"messages":[' + EMPTY + b"]}", "messages"),
    ("/v1/chat/completions", b'{"messages":[{"role":"user","content":[' + EMPTY + b"]}]}", "messages"),
    ("/v1/chat/completions", b'{"messages":[{"role":"user","tool_calls":[' + EMPTY + b"]}]}", "messages"),
    ("/v1/chat/completions", b'{"messages":[],"tools":[' + EMPTY + b"]}", "tools"),
    ("/v1/chat/completions", b'{"messages":[],"logit_bias":{' + KEYS + b"}}", "logit_bias"),
    ("/v1/chat/completions", b'{"messages":[],"stop":[' + WORDS + b"]}", "stop"),
    ("/v1/chat/completions", b'{"messages":[],"stop_token_ids":[' + IDS + b"]}", "stop_token_ids"),
    ("/v1/chat/completions", b'{"messages":[],"unheard_of":[' + IDS + b"]}", "unheard_of"),
    ("/v1/completions", b'{"prompt":[' + WORDS + b"]}", "prompt"),
    ("/v1/completions", b'{"prompt":[' + EMPTY.replace(b"{}", b"[]") + b"]}", "prompt"),
    ("/generate", b'{"input_ids":[' + IDS + b"]}", "input_ids"),
    ("/generate", b'{"text":"x","sampling_params":[' + EMPTY + b"]}", "sampling_params"),
    ("/tokenize", b'{"messages":[' + EMPTY + b"]}", "messages"),
    ("/detokenize", b'{"tokens":[' + IDS + b"]}", "tokens"),
]  # fmt: skip


async def test_too_many_values_are_refused_by_the_name_of_their_field(suite):
    for path, body, param in CASES:
        answer = await suite.http.post(path, content=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, param), (path, param, error)
        assert "at most" in error["message"]
    assert not suite.decode.submits


async def test_a_schema_given_as_text_is_counted_too(suite):
    schema = '{"enum":[' + EMPTY.decode() + "]}"
    for path, body, param in [
        (
            "/generate",
            {"text": "x", "sampling_params": {"json_schema": schema}},
            "sampling_params.json_schema",
        ),
        ("/v1/completions", {"prompt": "x", "json_schema": schema}, "json_schema"),
    ]:
        answer = await suite.http.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_lists_nested_deeper_than_can_be_read_are_refused(suite):
    for field in ("audio", "tools", "unheard_of", "metadata"):
        text = b'{"messages":[],"%b":%b%b}' % (field.encode(), b"[" * 50_000, b"]" * 50_000)
        answer = await suite.http.post("/v1/chat/completions", content=text)
        assert answer.status_code == 400, field


async def test_long_texts_full_of_marks_are_still_read(suite):
    text = '{"a": [' * 50_000
    answer = await suite.http.post("/v1/completions", json={"prompt": text, "max_tokens": 1})
    assert answer.json()["error"]["code"] == "context_length_exceeded"
