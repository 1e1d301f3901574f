"""Policies that are tables: one row a state."""
