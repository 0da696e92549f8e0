"""How the embedded checkpoint is made."""
