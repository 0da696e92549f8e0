"""Measuring requests: their stages, metrics and traces."""
