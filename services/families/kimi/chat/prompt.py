"""A conversation as the token ids that the model continues."""

from __future__ import annotations

from services.families.conversation import Conversation
from services.families.kimi.chat.segments import encode_segments
from services.families.kimi.chat.template import lay_out
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.prompt import RenderedPrompt


def render(conversation: Conversation, tokenizer: KimiTokenizer) -> RenderedPrompt:
    """Raises InvalidRequest for tools nested too deeply."""
    segments = lay_out(conversation)
    ids = tuple(encode_segments(segments, tokenizer))
    pad = tokenizer.special.media_pad
    return RenderedPrompt(
        token_ids=ids,
        text="".join(piece.text for piece in segments),
        media=tuple(index for index, token_id in enumerate(ids) if token_id == pad) if pad in ids else (),
    )
