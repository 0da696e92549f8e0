"""Makes the virtual environment `.venv`. Runs before anything is installed: standard library only."""
