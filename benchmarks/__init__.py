"""Wengert side by side with its peers: `python -m benchmarks.run`, `python -m benchmarks.transforms`.

`python -m benchmarks.compiled` measures `wg.compile`, and large eager works, beside PyTorch, `torch.compile` (which
needs a C++ compiler) and `jax.jit`: twenty minutes on a quiet machine; `--section` and `--only` take parts of it.
`python -m benchmarks.cheap_gradient` sets Wengert's derivatives beside the function that they are of, and
`python -m benchmarks.costs` one way to a derivative beside another.
"""
