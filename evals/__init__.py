"""Runs that judge what comes out of a whole suite."""
