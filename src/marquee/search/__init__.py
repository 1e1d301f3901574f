"""Choosing which jobs a sweep has: grids, zipped lists, and hyperparameter search with Optuna."""
