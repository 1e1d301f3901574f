"""One definition of each metric, with its source in the literature."""
