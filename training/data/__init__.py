"""From samples to batches of token ids, always through the served template and tokenizer."""
