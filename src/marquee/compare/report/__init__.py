"""A comparison drawn: the figures, and the page that holds them beside the tables."""
