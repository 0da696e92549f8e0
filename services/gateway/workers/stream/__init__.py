"""What one request gets from its worker: deltas, in an inbox."""
