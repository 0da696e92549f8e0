"""kimi-nano: creates its configuration, its tokenizer and the random weights for tests."""
