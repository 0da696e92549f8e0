"""The turns of a Messages body as the conversation's messages."""

from __future__ import annotations

from services.common.errors import InvalidRequest, UnsupportedValue
from services.families.conversation import ImagePart, Message, Part, TextPart, ToolCall
from services.gateway.http.messages.body import (
    AnyBlock,
    Base64Source,
    DocumentBlock,
    ImageBlock,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    TurnBody,
)
from services.gateway.media.images import ImageSource
from services.gateway.media.request_media import MediaSource

_FAILED = "The tool failed:\n"


class Turns:
    """Reads the turns in order. `messages`: a user's turn with results is several; `media`: their images, in
    order; `unreasoned`: as ChatPrompt has it.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.media: list[MediaSource] = []
        self.unreasoned: set[int] = set()

    def add(self, turn: TurnBody, param: str) -> None:
        """`param`: the field the turn came in. Raises InvalidRequest or UnsupportedValue naming the field."""
        blocks = [TextBlock(turn.content)] if isinstance(turn.content, str) else turn.content
        named = [(block, f"{param}.content[{index}]") for index, block in enumerate(blocks)]
        if turn.role == "assistant":
            self._add_assistant(named)
        else:
            self._add_asking(turn.role, named)

    def _add_asking(self, role: str, blocks: list[tuple[AnyBlock, str]]) -> None:
        """A user's turn: each result is a message of its own, what stands between them another."""
        parts: list[Part] = []
        for block, param in blocks:
            if not isinstance(block, ToolResultBlock):
                parts.append(self._part(block, role, param))
                continue
            if role != "user":
                raise InvalidRequest(f"{param}: results of tools are in a user's turn", f"{param}.type")
            if parts:
                self.messages.append(Message(role, tuple(parts)))
                parts = []
            self.messages.append(self._result(block, param))
        if parts or not blocks:
            self.messages.append(Message(role, tuple(parts)))

    def _add_assistant(self, blocks: list[tuple[AnyBlock, str]]) -> None:
        texts: list[Part] = []
        reasoning: list[str] = []
        calls: list[ToolCall] = []
        for block, param in blocks:
            if isinstance(block, ThinkingBlock):
                reasoning.append(block.thinking)
            elif isinstance(block, ToolUseBlock):
                calls.append(ToolCall(block.id, block.name, block.input))
            elif isinstance(block, TextBlock):
                texts.append(TextPart(block.text))
            elif not isinstance(block, RedactedThinkingBlock):
                raise _misplaced(block, "assistant", param)
        if calls and not reasoning:
            self.unreasoned.add(len(self.messages))
        self.messages.append(Message("assistant", tuple(texts), "", "".join(reasoning), tuple(calls)))

    def _result(self, block: ToolResultBlock, param: str) -> Message:
        content = block.content or []
        given = [TextBlock(content)] if isinstance(content, str) else content
        parts = [self._part(each, "user", f"{param}.content[{index}]") for index, each in enumerate(given)]
        if block.is_error:
            parts.insert(0, TextPart(_FAILED))
        return Message("tool", tuple(parts), tool_call_id=block.tool_use_id)

    def _part(self, block: AnyBlock, role: str, param: str) -> Part:
        if isinstance(block, TextBlock):
            return TextPart(block.text)
        if isinstance(block, ImageBlock) and role == "user":
            source = block.source
            if isinstance(source, Base64Source):
                url, field = f"data:;base64,{source.data}", f"{param}.source.data"
            else:
                url, field = source.url, f"{param}.source.url"
            self.media.append(ImageSource(url, field))
            return ImagePart()
        raise _misplaced(block, role, param)


def _misplaced(block: AnyBlock, role: str, param: str) -> InvalidRequest:
    if isinstance(block, DocumentBlock):
        return UnsupportedValue(f"{param}: documents are not supported by this server", param)
    kind = block.__struct_config__.tag
    return InvalidRequest(
        f"{param}: a block of type {kind!r} has no place in a turn of {role}", f"{param}.type"
    )
