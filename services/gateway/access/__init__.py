"""API keys: who may call what, and how much of it."""
