"""kimi-nano: how its configuration, its tokenizer and the random weights for tests are made."""
