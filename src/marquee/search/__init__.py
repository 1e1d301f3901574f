"""Hyperparameter search with Optuna: spaces, studies, objectives, pruning."""
