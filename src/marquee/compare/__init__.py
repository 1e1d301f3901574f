"""Many finished runs side by side: protocols apart, seeds together, paired tests, tables, figures, a page."""
