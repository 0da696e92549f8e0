"""Creates the embedded checkpoint."""
