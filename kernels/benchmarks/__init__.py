"""Each kernel at Kimi-K2.5's shapes: right on fresh random inputs, and how near to the hardware's limit."""
