"""The model's output taken apart: reasoning, content and tool calls, by token ids."""
