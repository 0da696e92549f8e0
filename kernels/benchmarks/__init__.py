"""Checks each kernel at Kimi-K2.5's shapes on fresh random inputs, and times it against the
hardware's limit.
"""
