"""Wengert side by side with its peers: `python -m benchmarks.run` and `python -m benchmarks.transforms` print a table each."""
