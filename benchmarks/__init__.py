"""Wengert side by side with its peers: `python -m benchmarks.run`, `python -m benchmarks.transforms`.

`python -m benchmarks.cheap_gradient` sets Wengert's derivatives beside the function that they are of, and
`python -m benchmarks.costs` one way to a derivative beside another.
"""
