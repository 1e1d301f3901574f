"""Policies that are networks: what to do in a game."""
