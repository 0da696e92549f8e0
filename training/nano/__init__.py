"""models/kimi-nano: how its tokenizer and weights are made."""
