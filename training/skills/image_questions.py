"""Questions about pictures of receipts and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.families.conversation import Conversation, ImagePart, Message, TextPart
from training.skills.dice import Dice
from training.skills.documents import Item, Label, Printer, Receipt
from training.skills.expectation import Call, Expectation
from training.skills.sample import Sample, user
from training.skills.split import Split
from training.skills.toolbox import Toolbox
from training.skills.wording import pick_wording

DESCRIBE = (
    "[What is|What's|What do you see] in [this|the] [image|picture|photo]?[| Describe it in detail.]",
    "[Describe|Please describe] [this|the] [image|picture|photo][ in detail|][.|]",
    "[Tell me|Say] what [this|the] [image|picture] shows[.|]",
)
READ = (
    "[Read|Please read|Transcribe] [this|the] [picture|image|note][.|]",
    "What does [it|this|the picture|the note] say[?|]",
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
ITEM = (
    "[What|Which] product is [this|it|on the label][?|]",
    "[Tell me|Say] the name of the product[.|]",
)
SHOP = (
    "[Which|What] shop is [this|it] from[?|]",
    "[Where|In which shop] did they buy [this|it][?|]",
)
MAKER = (
    "Who [makes|made] [this|it][?|]",
    "[What|Which] maker is on the label[?|]",
)
DATE = (
    "[What is|What's|Read] the date[?|]",
    "[Which|What] date is on [it|the paper][?|]",
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


@dataclass(frozen=True)
class Look:
    """A question about a picture; `facts` lists what the answer has to mention."""

    question: str
    answer: str
    facts: tuple[str, ...]


class ImageQuestions:
    """Makes samples with pictures."""

    def __init__(self, printer: Printer, toolbox: Toolbox) -> None:
        self._printer = printer
        self._toolbox = toolbox

    def read(self, dice: Dice, split: Split, thinking: bool) -> Sample:
        """The lines of a note, in order: the equivalent for pictures of copying a text."""
        note = self._printer.note(dice, split)
        look = Look(pick_wording(READ, dice, split), f"It says {', '.join(note.lines)}.", note.lines)
        return _look([], look, [note.printed.picture], "I read it.", thinking)

    def describe(self, dice: Dice, split: Split, thinking: bool) -> Sample:
        """A description of everything on a receipt or a label."""
        paper: Receipt | Label = (
            self._printer.receipt(dice, split) if dice.chance(0.7) else self._printer.label(dice, split)
        )
        look = _description(paper, dice, split)
        return _look(_before(paper, dice, split), look, [paper.printed.picture], "I read it.", thinking)

    def total(self, dice: Dice, split: Split, thinking: bool) -> Sample:
        """The total of a receipt, or the price of one of its items."""
        receipt = self._printer.receipt(dice, split)
        look = _total(receipt, dice, split) if dice.chance(0.6) else _price(receipt.items, dice, split)
        return _look(
            _before(receipt, dice, split), look, [receipt.printed.picture], "I look for it.", thinking
        )

    def totals(self, dice: Dice, split: Split, thinking: bool) -> Sample:
        """The totals of two or three receipts."""
        receipts = [self._printer.receipt(dice, split) for _ in range(dice.between(2, 3))]
        facts = [
            f"the {place} total is {paper.total}" for place, paper in zip(_ORDINALS, receipts, strict=False)
        ]
        answer = f"{', '.join(facts[:-1])} and {facts[-1]}."
        question = pick_wording(SEVERAL, dice, split)
        look = Look(question, answer[0].upper() + answer[1:], tuple(paper.total for paper in receipts))
        return _look([], look, [paper.printed.picture for paper in receipts], "I look at each.", thinking)

    def search(self, dice: Dice, split: Split, thinking: bool) -> Sample:
        """A search call with the product that a label names."""
        label = self._printer.label(dice, split)
        name, parameter = (
            dice.pick(_TOOL_NAMES),
            dice.pick(("query", "name", "product", "product_name", "item")),
        )
        tools = [_search_tool(name, parameter, dice)]
        others = self._toolbox.tools(dice.below(3), dice, split)
        tools += [tool.declaration() for tool in others if tool.name != name]
        tools = dice.some(tools, len(tools))
        call = Call(name, {parameter: label.product.name})
        thought = f"The label says {label.product.name}. I call {name} with {parameter} {label.product.name}."
        expect = Expectation("calls", calls=(call,))
        question = pick_wording(SEARCH, dice, split)
        turns = _turns(_before(label, dice, split), question, [label.printed.picture])
        conversation = Conversation(turns, tuple(tools), thinking)
        return Sample("search product", conversation, "", expect, thought if thinking else "", (call,))


def _look(
    before: Sequence[Look], look: Look, pictures: Sequence[bytes], thought: str, thinking: bool
) -> Sample:
    conversation = Conversation(_turns(before, look.question, pictures), thinking=thinking)
    expect = Expectation("contains", look.facts)
    return Sample("sights", conversation, look.answer, expect, thought if thinking else "")


def _turns(before: Sequence[Look], question: str, pictures: Sequence[bytes]) -> tuple[Message, ...]:
    """The conversation up to the question; the first turn contains the pictures."""
    first, *later = [*(look.question for look in before), question]
    turns = [user(*(ImagePart(picture) for picture in pictures), first)]
    for look, following in zip(before, later, strict=True):
        turns += [Message("assistant", (TextPart(look.answer),)), user(following)]
    return tuple(turns)


def _before(paper: Receipt | Label, dice: Dice, split: Split) -> list[Look]:
    """Up to three earlier questions about the same picture, which are trained too. Held-out cases
    have none.
    """
    if split is Split.HELD_OUT:
        return []
    return [_any(paper, dice, split) for _ in range(dice.below(4))]


def _any(paper: Receipt | Label, dice: Dice, split: Split) -> Look:
    if dice.chance(0.3):
        return _description(paper, dice, split)
    if dice.chance(0.3):
        answer = f"The date is {paper.date}."
        return Look(pick_wording(DATE, dice, split), answer, (paper.date,))
    kind = dice.below(3)
    if isinstance(paper, Label):
        item, maker = paper.product, paper.maker
        return (
            Look(pick_wording(ITEM, dice, split), f"It is {item.name}.", (item.name,)),
            Look(pick_wording(MAKER, dice, split), f"It is by {maker}.", (maker,)),
            _price((item,), dice, split),
        )[kind]
    shop = Look(pick_wording(SHOP, dice, split), f"It is from {paper.shop}.", (paper.shop,))
    return (shop, _total(paper, dice, split), _price(paper.items, dice, split))[kind]


def _description(paper: Receipt | Label, dice: Dice, split: Split) -> Look:
    return Look(pick_wording(DESCRIBE, dice, split), f"This is {paper.describe()}", paper.facts())


def _total(receipt: Receipt, dice: Dice, split: Split) -> Look:
    return Look(pick_wording(TOTAL, dice, split), f"The total is {receipt.total}.", (receipt.total,))


def _price(items: Sequence[Item], dice: Dice, split: Split) -> Look:
    item = dice.pick(items)
    question = pick_wording(PRICE, dice, split).format(item=item.name)
    return Look(question, f"The {item.name} costs {item.price}.", (item.price,))


def _search_tool(name: str, parameter: str, dice: Dice) -> dict[str, object]:
    description = dice.pick(
        ("Search for a product.", "Find a product in the shop.", "Look a product up by its name.")
    )
    properties = {parameter: {"type": "string", "description": "The name of the product"}}
    schema = {"type": "object", "properties": properties, "required": [parameter]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}
