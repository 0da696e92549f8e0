"""Training kimi-nano: `python -m training.run`."""
