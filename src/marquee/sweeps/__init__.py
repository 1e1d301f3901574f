"""Many jobs under one name: planned and frozen before the first starts, each in a process of its own, recorded."""
