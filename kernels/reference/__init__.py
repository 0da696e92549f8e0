"""What each kernel computes, in plain PyTorch: slow, short, and in the inputs' or float32 precision."""
