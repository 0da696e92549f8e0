"""The text model on the Triton kernels of `kernels/`, for a GPU."""
