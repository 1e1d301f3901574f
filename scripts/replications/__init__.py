"""Published numbers, replicated: recipes, what their sweeps found, verdicts, raw files, the page. See replicate.py."""
