"""Printed documents: receipts of shops and labels of products."""

from __future__ import annotations

from dataclasses import dataclass

from training.skills.dice import Dice
from training.skills.drawing import SEPARATOR, Layout, Print, print_paper
from training.skills.lexicon import Lexicon
from training.skills.split import Split


@dataclass(frozen=True)
class Item:
    """An article and its `price`, written as on the paper, without a currency."""

    name: str
    price: str


@dataclass(frozen=True)
class Receipt:
    """`total` is the sum of the items."""

    shop: str
    date: str
    items: tuple[Item, ...]
    total: str
    printed: Print

    def describe(self) -> str:
        """Describes all contents, from top to bottom."""
        items = ", ".join(f"{item.name} for {item.price}" for item in self.items)
        return f"a receipt of {self.shop} from {self.date}. It lists {items}. The total is {self.total}."

    def facts(self) -> tuple[str, ...]:
        """The facts that a description has to mention."""
        named = [text for item in self.items for text in (item.name, item.price)]
        return self.shop, self.date, *named, self.total


@dataclass(frozen=True)
class Label:
    """The label of a product in a shop."""

    maker: str
    product: Item
    date: str
    printed: Print

    def describe(self) -> str:
        """Describes all contents."""
        item = self.product
        about = f"a label of {item.name} by {self.maker}. The price is {item.price}."
        return f"{about} It is best before {self.date}."

    def facts(self) -> tuple[str, ...]:
        """The facts that a description has to mention."""
        return self.maker, self.product.name, self.product.price, self.date


@dataclass(frozen=True)
class Note:
    """A few words or numbers, one per line."""

    lines: tuple[str, ...]
    printed: Print


class Printer:
    """Draws the contents of a document and prints it as a picture."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon

    def receipt(self, dice: Dice, split: Split) -> Receipt:
        """Draws a receipt of one to four items."""
        names = self._lexicon.words("FOODS", dice.between(1, 4), dice)
        items = tuple(Item(name, _price(dice, split)) for name in names)
        total = _written(sum(_cents(item.price) for item in items))
        shop, date = self._lexicon.shop(dice, split), _date(dice, split)
        mark = dice.pick(("", "$", "EUR "))
        rows: list[tuple[str, ...]] = [(item.name, mark + item.price) for item in items]
        head: list[tuple[str, ...]] = [(shop,), (date,)] if dice.chance(0.6) else [(shop,)]
        tail: list[tuple[str, ...]] = [] if (date,) in head else [(date,)]
        rule: list[tuple[str, ...]] = [(SEPARATOR,)] if dice.chance(0.5) else []
        last = (dice.pick(("TOTAL", "Total", "Sum", "To pay")), mark + total)
        printed = print_paper([*head, *rule, *rows, *rule, last, *tail], _layout(dice, split), dice)
        return Receipt(shop, date, items, total, printed)

    def label(self, dice: Dice, split: Split) -> Label:
        """Draws the label of a product with its price."""
        product = Item(self._lexicon.word("FOODS", dice), _price(dice, split))
        maker, date = self._lexicon.shop(dice, split), _date(dice, split)
        mark = dice.pick(("", "$", "EUR "))
        lines: list[tuple[str, ...]] = [(product.name,), (f"by {maker}",), (mark + product.price,)]
        lines = (
            [*lines, ("best before",), (date,)]
            if dice.chance(0.5)
            else [lines[1], lines[0], lines[2], (date,)]
        )
        return Label(maker, product, date, print_paper(lines, _layout(dice, split), dice))

    def note(self, dice: Dice, split: Split) -> Note:
        """Draws a note of one to three lines."""
        count = dice.pick((1, 1, 1, 2, 2, 3))
        lines = tuple(self._line(dice, split) for _ in range(count))
        return Note(lines, print_paper([(line,) for line in lines], _layout(dice, split), dice))

    def _line(self, dice: Dice, split: Split) -> str:
        kind = dice.below(4)
        if kind == 0:
            return self._lexicon.word("FOODS", dice)
        if kind == 1:
            return self._lexicon.shop(dice, split)
        return _price(dice, split) if kind == 2 else _date(dice, split)


def _layout(dice: Dice, split: Split) -> Layout:
    return split.draw("layout", lambda: Layout.draw(dice))


def _price(dice: Dice, split: Split) -> str:
    return split.draw("price", lambda: _written(dice.between(10, 10 ** dice.between(2, 4) - 1)))


def _date(dice: Dice, split: Split) -> str:
    def draw() -> str:
        year, month, day = dice.between(2020, 2029), dice.between(1, 12), dice.between(1, 28)
        return f"{year}-{month:02d}-{day:02d}"

    return split.draw("date", draw)


def _written(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _cents(price: str) -> int:
    return int(price.replace(".", ""))
