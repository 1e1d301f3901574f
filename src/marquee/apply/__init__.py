"""What is done with a finished run: `load` it. Knows runs by their names."""
