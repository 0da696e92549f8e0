"""Draws the pictures of docs/: one SVG for each TOML file beside this one (`make pictures`)."""
