"""Questions about pictures of receipts and labels."""

from __future__ import annotations

from services.gateway.chat.messages import Conversation, ImagePart
from training.skills.dice import Dice
from training.skills.expectation import Call, Expectation
from training.skills.papers import Label, Printer, Receipt
from training.skills.sample import Sample, user
from training.skills.split import Split
from training.skills.toolbox import Toolbox
from training.skills.wording import pick_wording

DESCRIBE = (
    "[What is|What's|What do you see] in [this|the] [image|picture|photo]?[| Describe it in detail.]",
    "[Describe|Please describe] [this|the] [image|picture|photo][ in detail|][.|]",
    "[Tell me|Say] what [this|the] [image|picture] shows[.|]",
)
TOTAL = (
    "[What is|What's|Read] the total[ of this receipt| on the receipt| in the picture|][?|]",
    "How much [is it|did they pay|is to be paid|does it come to] [in total|altogether|in all]?",
    "[Tell me|Say|Give me] the total[ amount| price|][.|]",
)
PRICE = (
    "[What does|How much does] the {item} cost?",
    "[What is|What's|Tell me] the price of [the |]{item}[?|]",
)
SEARCH = (
    "[Search for|Find|Look for|Look up] [the|this] product [in|on] [this|the] [image|picture|label].",
    "[Can you find|Find|Search] this product[ for me| in the shop|][?|.]",
)
SEVERAL = (
    "What [are the totals|is the total of each][?| of these receipts?]",
    "[Tell me|Give me|Read] the total of [each|every] [receipt|picture|image][.|]",
)
_TOOL_NAMES = (
    "search_product",
    "find_product",
    "product_search",
    "lookup_product",
    "search_catalog",
    "query_shop",
)
_ORDINALS = ("first", "second", "third")


class Sights:
    """Makes samples with pictures."""

    def __init__(self, printer: Printer, toolbox: Toolbox) -> None:
        self._printer = printer
        self._toolbox = toolbox

    def describe(self, dice: Dice, split: Split, thinking: bool) -> Sample:
        """All that a receipt or a label says."""
        paper: Receipt | Label = (
            self._printer.receipt(dice, split) if dice.chance(0.7) else self._printer.label(dice, split)
        )
        question = pick_wording(DESCRIBE, dice, split)
        expect = Expectation("contains", paper.facts())
        return _look(question, [paper.picture], f"This is {paper.describe()}", expect, "I read it.", thinking)

    def total(self, dice: Dice, split: Split, thinking: bool) -> Sample:
        """The total of a receipt, or the price of one of its items."""
        receipt = self._printer.receipt(dice, split)
        if dice.chance(0.6):
            question, value = pick_wording(TOTAL, dice, split), receipt.total
            answer = f"The total is {value}."
        else:
            item = dice.pick(receipt.items)
            question, value = pick_wording(PRICE, dice, split).format(item=item.name), item.price
            answer = f"The {item.name} costs {value}."
        expect = Expectation("contains", (value,))
        return _look(question, [receipt.picture], answer, expect, "I look for it.", thinking)

    def totals(self, dice: Dice, split: Split, thinking: bool) -> Sample:
        """The totals of two or three receipts."""
        receipts = [self._printer.receipt(dice, split) for _ in range(dice.between(2, 3))]
        facts = [
            f"the {place} total is {paper.total}" for place, paper in zip(_ORDINALS, receipts, strict=False)
        ]
        answer = f"{', '.join(facts[:-1])} and {facts[-1]}."
        expect = Expectation("contains", tuple(paper.total for paper in receipts))
        question = pick_wording(SEVERAL, dice, split)
        pictures = [paper.picture for paper in receipts]
        return _look(question, pictures, answer[0].upper() + answer[1:], expect, "I look at each.", thinking)

    def search(self, dice: Dice, split: Split, thinking: bool) -> Sample:
        """A call with the product that a label names, or the first item of a receipt of one."""
        label = self._printer.label(dice, split)
        name, parameter = (
            dice.pick(_TOOL_NAMES),
            dice.pick(("query", "name", "product", "product_name", "item")),
        )
        tools = [_search_tool(name, parameter, dice)]
        tools += [tool.declaration() for tool in self._toolbox.tools(dice.below(3), dice, split)]
        tools = dice.some(tools, len(tools))
        call = Call(name, {parameter: label.product.name})
        thought = f"The label says {label.product.name}. I call {name} with {parameter} {label.product.name}."
        expect = Expectation("calls", calls=(call,))
        question = pick_wording(SEARCH, dice, split)
        conversation = Conversation((user(ImagePart(label.picture), question),), tuple(tools), thinking)
        return Sample("search product", conversation, "", expect, thought if thinking else "", (call,))


def _look(
    question: str, pictures: list[bytes], answer: str, expect: Expectation, thought: str, thinking: bool
) -> Sample:
    message = user(*(ImagePart(picture) for picture in pictures), question)
    return Sample(
        "sights", Conversation((message,), thinking=thinking), answer, expect, thought if thinking else ""
    )


def _search_tool(name: str, parameter: str, dice: Dice) -> dict[str, object]:
    description = dice.pick(
        ("Search for a product.", "Find a product in the shop.", "Look a product up by its name.")
    )
    properties = {parameter: {"type": "string", "description": "The name of the product"}}
    schema = {"type": "object", "properties": properties, "required": [parameter]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}
