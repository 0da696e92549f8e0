"""The usual first requests to a Kimi-K2.5: `python -m evals.cookbook`, while the suite of `make run` runs.

The cases: two numbers compared with thinking and without, a weather tool called, its result put into words, a
receipt described, a product searched for. Prints each answer of the model and whether it is right.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator

from evals.endpoint import Endpoint, Failed, first_model
from evals.request import answer_of, chat_body
from services.families.conversation import Conversation, ImagePart, Message, TextPart, ToolCall
from training.skills.dice import Dice
from training.skills.documents import Printer, Receipt
from training.skills.expectation import Call, Expectation
from training.skills.lexicon import Lexicon
from training.skills.sample import Sample, ask, user
from training.skills.split import Split

_BIGGER = "which one is bigger, 9.11 or 9.9? think carefully."
_PLACE = {"type": "string", "description": "The city"}
_UNIT = {"type": "string", "enum": ["celsius", "fahrenheit"]}
_GET_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather for a city.",
        "parameters": {
            "type": "object",
            "properties": {"location": _PLACE, "unit": _UNIT},
            "required": ["location"],
        },
    },
}
_SEARCH_PRODUCT = {
    "type": "function",
    "function": {
        "name": "search_product",
        "description": "Search for a product by its name.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string", "description": "The name of the product"}},
            "required": ["query"],
        },
    },
}


def cases() -> Iterator[Sample]:
    """Cases in the order in which a newcomer would ask them."""
    for thinking in (True, False):
        bigger = Expectation("first number", ("9.9",))
        mode = "thinking" if thinking else "instant"
        yield Sample(f"bigger, {mode}", ask(_BIGGER, thinking), "", bigger)
    yield from _weather()
    printer, dice = Printer(Lexicon()), Dice("cookbook")
    receipt = _receipt_of_two(printer, dice)
    seen = user(ImagePart(receipt.printed.picture), "What is in this image? Describe it in detail.")
    yield Sample("receipt", Conversation((seen,)), "", Expectation("contains", receipt.facts()))
    label = printer.label(dice, Split.HELD_OUT)
    wanted = user(ImagePart(label.printed.picture), "Search for the product in this image.")
    call = Call("search_product", {"query": label.product.name})
    yield Sample(
        "product", Conversation((wanted,), (_SEARCH_PRODUCT,)), "", Expectation("calls", calls=(call,))
    )


def _weather() -> Iterator[Sample]:
    question = user("What's the weather in Beijing?")
    call = Call("get_weather", {"location": "Beijing"})
    yield Sample(
        "tool call", Conversation((question,), (_GET_WEATHER,)), "", Expectation("calls", calls=(call,))
    )
    made = ToolCall("functions.get_weather:0", call.name, '{"location": "Beijing"}')
    result = TextPart('{"temperature": 22, "condition": "sunny"}')
    turns = (
        question,
        Message("assistant", tool_calls=(made,)),
        Message("tool", (result,), name=made.name, tool_call_id=made.id),
    )
    told = Expectation("contains", ("22 degrees", "sunny"))
    yield Sample("tool result", Conversation(turns, (_GET_WEATHER,)), "", told)


def _receipt_of_two(printer: Printer, dice: Dice) -> Receipt:
    """A receipt whose shop has a name of ordinary words: an invented name may begin with an I, which is
    printed like an l.
    """
    while True:
        receipt = printer.receipt(dice, Split.HELD_OUT)
        if len(receipt.items) == 2 and " " in receipt.shop:
            return receipt


async def run(endpoint: Endpoint, model: str, max_tokens: int) -> dict[str, bool]:
    """Prints every answer and returns, per case, whether it is right. Raises Failed if the server gives no
    answer.
    """
    right = {}
    for case in cases():
        response = await endpoint.post(
            "/v1/chat/completions", chat_body(case.conversation, model, max_tokens)
        )
        content, calls = answer_of(response)
        right[case.skill] = case.expect.met_by(content, calls)
        said = " ".join([content, *(f"{call.name}({call.arguments})" for call in calls)]).strip()
        print(f"{case.skill:18} {'right' if right[case.skill] else 'WRONG'}  {said}", flush=True)
        if not right[case.skill]:
            print(f"{'':18} wanted {case.expect.values or case.expect.calls}", flush=True)
    return right


async def _main(arguments: argparse.Namespace) -> int:
    endpoint = Endpoint(arguments.url)
    try:
        model = arguments.model or await first_model(endpoint)
        right = await run(endpoint, model, arguments.max_tokens)
    except (Failed, ValueError) as error:
        print(f"evals: {arguments.url} {error}", file=sys.stderr)
        return 1
    finally:
        await endpoint.close()
    return int(not all(right.values()))


def main() -> None:
    """Runs the command line. The exit status is 1 if an answer is wrong or missing."""
    parser = argparse.ArgumentParser(prog="python -m evals.cookbook", description=__doc__)
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:30000", help="URL of the gateway (default: that of make run)")
    add("--model", default="", help="model id (default: the first that the server lists)")
    add("--max-tokens", type=int, default=400)
    sys.exit(asyncio.run(_main(parser.parse_args())))


if __name__ == "__main__":
    main()
