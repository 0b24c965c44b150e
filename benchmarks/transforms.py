"""Measure Wengert's transforms beside PyTorch's and print one table: `python -m benchmarks.transforms`.

A full run keeps its table in `benchmarks/results/transforms.md`.
"""

from __future__ import annotations

import sys
from functools import partial

from benchmarks.engines import HIPS, JAX_EAGER, JAX_JIT, TORCH_FUNC
from benchmarks.measurement import Measurement, timed
from benchmarks.report import Layout
from benchmarks.suite import Suite

NOTE = """\
Ratio: Wengert's median over that of torch.func, PyTorch's transforms. Spread: the quartiles of the ratios of the pairs.
The two are run in turn in one process, in repetitions of at least 20 ms, with default threads, the cycle collector on.
Where a library has several ways to write a piece of work, all are timed, and the table has the fastest; the ways are
listed below. The column PyTorch has its fastest way of all, those that are no transforms of functions included. Each
result is checked against PyTorch's before anything is timed. Other columns are medians; compilation by `jit` is not in
them."""

_against_transforms = partial(Measurement, baseline=TORCH_FUNC)

MEASUREMENTS: dict[str, Measurement] = {
    "hvp": _against_transforms("Hessian-vector product, MLP 784-256-10, batch 64, float32", 0.9, partial(timed, "hvp")),
    "hessian": _against_transforms(
        "Hessian of the Rosenbrock function of 100 variables, float64", 0.5, partial(timed, "hessian")
    ),
    "jacobian": _against_transforms(
        "Jacobian of a map from 200 to 200 through 20 operations, float64", 0.6, partial(timed, "jacobian")
    ),
    "per-sample": _against_transforms(
        "Per-sample gradients, MLP 784-256-10, batch 256, float32",
        0.9,
        partial(timed, "per-sample"),
        repetitions=11,
    ),
    "vmap": _against_transforms("vmap of 50 operations over 1,000 vectors of 10, float64", 0.5, partial(timed, "vmap")),
    "jvp": _against_transforms("jvp of 300 operations on 10 float64 elements", 0.5, partial(timed, "jvp")),
}

SUITE = Suite(
    "benchmarks.transforms",
    "Measure Wengert's transforms beside PyTorch's.",
    Layout("Wengert's transforms against torch.func", (TORCH_FUNC, HIPS, JAX_EAGER, JAX_JIT), NOTE),
    MEASUREMENTS,
    "transforms.md",
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
