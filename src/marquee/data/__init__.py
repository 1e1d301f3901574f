"""Data sets, the splits that cut them, and the views that make batches of them. No models, no Lightning."""
