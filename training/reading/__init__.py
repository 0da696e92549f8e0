"""Teaches the vision tower letters before the text model has to interpret them."""
