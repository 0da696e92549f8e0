"""How much of what a served model answers is right, asked through its REST API."""
