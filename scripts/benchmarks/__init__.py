"""The benchmarks behind `scripts/benchmark.py`, by what they measure."""
