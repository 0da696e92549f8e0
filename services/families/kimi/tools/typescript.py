"""The types a declaration is made of, and how each is written; nested lines are indented by two spaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

STEP = "  "


class TsType(Protocol):
    """A type; `indent` is that of the line it is written on."""

    def write(self, indent: str) -> str: ...


@dataclass(frozen=True)
class Word:
    """A type that is one text: a name, a literal, nothing at all."""

    text: str

    def write(self, indent: str) -> str:
        return self.text


@dataclass(frozen=True)
class Union:
    """One of several types."""

    members: tuple[TsType, ...]

    def write(self, indent: str) -> str:
        return " | ".join(member.write(indent) for member in self.members)


@dataclass(frozen=True)
class Documented:
    """A type with what is said about it. `comments`: description and constraints; `default`: as written."""

    type: TsType
    comments: tuple[str, ...] = ()
    default: str | None = None


@dataclass(frozen=True)
class ArrayOf:
    """An array; the comments of its item, but not the item's default, are written inside the brackets."""

    item: Documented

    def write(self, indent: str) -> str:
        if not self.item.comments:
            return f"Array<{self.item.type.write(indent)}>"
        inner = indent + STEP
        lines = [*(comment(text, inner) for text in self.item.comments), inner + self.item.type.write(inner)]
        return "\n".join(("Array<", *lines, f"{indent}>"))


@dataclass(frozen=True)
class Field:
    """A property of an object."""

    name: str
    required: bool
    value: Documented

    def write(self, indent: str) -> str:
        """All lines indented, the comments first."""
        comments = [*self.value.comments]
        if self.value.default is not None:
            comments.append(f"Default: {self.value.default}")
        mark = "" if self.required else "?"
        line = f"{indent}{self.name}{mark}: {self.value.type.write(indent)}"
        return "\n".join((*(comment(text, indent) for text in comments), line))


@dataclass(frozen=True)
class Record:
    """An object. `rest`: the type of properties that are not named, where the schema speaks of them."""

    fields: tuple[Field, ...]
    rest: TsType | None = None

    def write(self, indent: str) -> str:
        inner = indent + STEP
        lines = [field.write(inner) for field in self.fields]
        if self.rest is not None:
            lines.append(f"{inner}[k: string]: {self.rest.write(inner)}")
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}" if lines else "{}"


def comment(text: str, indent: str) -> str:
    """`// ` before every line; an empty line stays empty."""
    return "\n".join(f"{indent}// {line}" if line else "" for line in text.split("\n"))
