from __future__ import annotations

import json

import pytest

from services.common.errors import InvalidRequest
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.kimi.tools.declaration import declare_tools
from tests.families.kimi.chat.golden import read_vectors


def tool(parameters=None, **function):
    return {"type": "function", "function": {"name": "f", "parameters": parameters, **function}}


def body(*tools) -> str:
    text = declare_tools(tools)
    head, tail = "# Tools\n\n## functions\nnamespace functions {\n", "\n}\n"
    assert text.startswith(head)
    assert text.endswith(tail)
    return text.removeprefix(head).removesuffix(tail)


def fields(**properties) -> str:
    text = body(tool({"type": "object", "properties": properties}))
    return text.removeprefix("type f = (_: {\n").removesuffix("\n}) => any;")


def test_every_golden_declaration_gives_its_text_and_ids(shared_dir, fidelity):
    tokenizer = KimiTokenizer.from_dir(shared_dir / "data" / "kimi-k2.5")
    vectors = read_vectors(shared_dir, "tool_declaration.jsonl")
    for vector in vectors:
        text = declare_tools(vector["input"]["tools"])
        assert text == vector["expected"]["text"], vector["id"]
        assert tokenizer.encode(text) == vector["expected"]["token_ids_plain"], vector["id"]
    fidelity.equal("Tool declaration", "tools to TypeScript or JSON and ids", "golden vectors", len(vectors))


def test_required_fields_come_first_and_each_group_is_sorted():
    schema = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in "dacb"},
        "required": ["d", "b"],
        "additionalProperties": False,
    }
    assert body(tool(schema, description="Does it.\n\nWell.")) == (
        "// Does it.\n\n// Well.\ntype f = (_: {\n  b: string,\n  d: string,\n  a?: string,\n  c?: string,\n"
        "  [k: string]: never\n}) => any;"
    )


def test_comments_are_description_constraints_and_default():
    schema = {"type": "integer", "minimum": 1, "maximum": 7, "default": 3, "description": "How many."}
    assert fields(n=schema) == "  // How many.\n  // maximum: 7, minimum: 1\n  // Default: 3\n  n?: number"


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        (True, "any"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"type": "string", "enum": ["a", None]}, '"a" | None'),
        ({"enum": ["a", 1, None, True]}, '"a" | 1 | None | True'),
        (
            {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "string"}}]},
            "number | Array<string>",
        ),
        ({"type": "array"}, "Array<any>"),
        ({"type": "object", "additionalProperties": {}}, "{\n    [k: string]: any\n  }"),
        (
            {"type": "array", "items": {"type": "string", "description": "d"}},
            "Array<\n    // d\n    string\n  >",
        ),
    ],
)
def test_types_are_written_as_typescript(schema, written):
    assert fields(x=schema) == f"  x?: {written}"


def test_definitions_become_interfaces_in_front():
    schema = {
        "type": "object",
        "properties": {"node": {"$ref": "#/$defs/Node"}},
        "$defs": {
            "Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}, "description": "d"}
        },
    }
    assert (
        body(tool(schema))
        == "// d\ninterface Node {\n  next?: Node\n}\ntype f = (_: {\n  node?: Node\n}) => any;"
    )


def test_a_reference_to_the_root_names_it():
    schema = {"type": "object", "properties": {"child": {"$ref": "#"}}}
    assert body(tool(schema)) == (
        "interface parameters {\n  child?: parameters\n}\ntype f = (_: parameters) => any;"
    )


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": []},
        {"title": "t"},
        {"type": ["string", "date"]},
        {"type": "string", "enum": [1]},
        {"type": ["string", "integer"], "enum": ["a"]},
        {"enum": None},
        {"$ref": "#/definitions/A"},
        {"$ref": "#/$defs/A"},
        {"$ref": 1},
        {"anyOf": None},
        {"type": "array", "items": [{"type": "string"}]},
        {"type": "object", "properties": None},
        {"type": "object", "required": None},
        {"type": "object", "additionalProperties": "yes"},
        {"type": "object", "$defs": 1},
        {"type": 1},
        {"type": "string", "description": 5},
        None,
        "string",
    ],
)
def test_one_schema_that_cannot_be_encoded_turns_the_whole_array_into_sorted_json(schema):
    tools = [tool(name="good"), tool({"type": "object", "properties": {"x": schema}})]
    text = declare_tools(tools)
    assert text == json.dumps(tools, sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize(
    "entry", [{"type": "plugin"}, {"type": "function"}, {"type": "function", "function": {}}, 1]
)
def test_an_array_without_functions_is_json(entry):
    assert declare_tools([entry]) == json.dumps([entry], sort_keys=True, separators=(",", ":"))


def test_what_is_no_function_is_skipped_beside_one():
    assert body({"type": "plugin"}, tool()) == "type f = (_: {}) => any;"


def test_a_schema_nested_too_deeply_is_refused():
    schema: dict = {"type": "string"}
    for _ in range(100_000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(InvalidRequest, match="too deeply"):
        declare_tools([tool({"type": "object", "properties": {"x": schema}})])
