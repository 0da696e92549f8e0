"""The few loops that are compiled where a C compiler is at hand. Everything works without them."""
