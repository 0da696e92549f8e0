"""Measures the accuracy of a running suite's answers through its REST API."""
