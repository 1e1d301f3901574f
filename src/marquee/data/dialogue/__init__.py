"""Conversations: what was said, and what was replied."""
