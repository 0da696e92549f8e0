"""Constrains the output of a request to a grammar; see token_constraint.py."""
