"""Triton kernels for Kimi-K2.5's shapes; `kernels.reference` states in plain PyTorch what each computes.

Importing a module of this package imports triton: only code that runs on a GPU, and tests, may do so.
"""
