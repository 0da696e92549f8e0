"""Loops that are compiled if a C compiler is available. Everything works without them."""
