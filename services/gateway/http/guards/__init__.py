"""What is checked before a request is read: its host, its origin, its encoding."""
