"""models/kimi-nano: its tokenizer and, later, its weights."""
