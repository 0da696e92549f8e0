"""Kernels compiled before they are needed, for machines without a C compiler."""
