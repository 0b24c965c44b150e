"""Wengert side by side with its peers: `python -m benchmarks.run` prints one table."""
