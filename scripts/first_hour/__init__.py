"""The first hour of a new user as numbered checks, on a clean clone with an empty home."""
