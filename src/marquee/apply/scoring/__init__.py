"""Many rows through a finished run: one function over tables, and the files around it."""
