"""What the compiler makes of every kernel at the real shapes, without a GPU."""
