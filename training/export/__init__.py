"""Exports a training state as a checkpoint in the published format: `python -m training.export`."""
