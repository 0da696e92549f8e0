"""How much of what a running suite answers is right, asked through its REST API."""
