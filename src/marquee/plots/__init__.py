"""Figures: what they are made of, how they reach a file, and those that a single run leaves in its folder."""
