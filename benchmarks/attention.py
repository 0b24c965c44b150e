"""Attention and its gradient, beside PyTorch and JAX: `python -m benchmarks.attention`.

Each library computes each case in a process of its own, so that its peak of memory is known; processes take turns.
Run as a program with a library and a case, this is such a process: for every line that it reads, it takes a sample.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import machine
from benchmarks.fresh import with_caches_in
from benchmarks.keeping import Keeper
from benchmarks.processes import ROOT, forget_peak, resident_bytes
from benchmarks.report import Section, format_bytes, format_seconds
from benchmarks.suite import RESULTS

Call = Callable[[], list[Any]]
ROUNDS, CALLS, WARM = 9, 5, 12


class Case(NamedTuple):
    """Heads of a batch, their length and features; "causal", "padded" (keys are left out), or "" for no mask."""

    count: int
    heads: int
    length: int
    features: int
    mask: str


CASES = {
    "16 x 4 heads, 64 long, 32 features, causal": Case(16, 4, 64, 32, "causal"),
    "4 x 4 heads, 256 long, 64 features, causal": Case(4, 4, 256, 64, "causal"),
    "4 x 8 heads, 512 long, 64 features": Case(4, 8, 512, 64, ""),
    "4 x 8 heads, 512 long, 64 features, padded": Case(4, 8, 512, 64, "padded"),
    "8 heads, 1024 long, 64 features": Case(1, 8, 1024, 64, ""),
    "8 heads, 1024 long, 64 features, causal": Case(1, 8, 1024, 64, "causal"),
    "4 heads, 4096 long, 64 features, causal": Case(1, 4, 4096, 64, "causal"),
}
NOTE = """\
The sum of squares of attention and its gradient by queries, keys and values, float32. Medians of rounds in which the
libraries take turns, each in a process of its own, with five calls after one that is not timed; in brackets, the peak
of memory over what was resident when the arrays had been made, compilation included. Ratio: to the faster of the
rivals. PyTorch runs `scaled_dot_product_attention`, JAX `jax.nn.dot_product_attention` in `jax.jit`, Wengert the same
in `wg.compile`. Results are compared before."""


def arrays(case: Case) -> tuple[list[np.ndarray], np.ndarray]:
    """Return queries, keys and values, and which keys are there."""
    rng = np.random.default_rng(0)
    shape = (case.count, case.heads, case.length, case.features)
    there = np.arange(case.length) < case.length * 3 // 4
    mask = np.broadcast_to(there, (case.count, 1, 1, case.length))
    return [rng.standard_normal(shape).astype("f4") for _ in range(3)], mask


def of_wengert(case: Case) -> Call:
    """Return the case in Wengert."""
    wg = importlib.import_module("wengert")
    (q, k, v), there = arrays(case)
    given = [wg.tensor(x) for x in (q, k, v)]
    mask = wg.tensor(np.array(there)) if case.mask == "padded" else None

    def loss(q: Any, k: Any, v: Any, mask: Any) -> Any:
        return wg.sum(wg.scaled_dot_product_attention(q, k, v, mask, case.mask == "causal") ** 2)

    compiled = wg.compile(wg.grad(loss, argnums=(0, 1, 2)))
    return lambda: list(compiled(*given, mask))


def of_torch(case: Case) -> Call:
    """Return the case in PyTorch."""
    torch = importlib.import_module("torch")

    (q, k, v), there = arrays(case)
    given = [torch.tensor(x, requires_grad=True) for x in (q, k, v)]
    mask = torch.tensor(np.array(there)) if case.mask == "padded" else None
    attention = torch.nn.functional.scaled_dot_product_attention

    def call() -> list[Any]:
        out = attention(*given, attn_mask=mask, is_causal=case.mask == "causal")
        return list(torch.autograd.grad((out * out).sum(), given))

    return call


def of_jax(case: Case) -> Call:
    """Return the case in JAX, whose heads stand behind lengths."""
    jax = importlib.import_module("jax")

    (q, k, v), there = arrays(case)
    given = [jax.numpy.asarray(x.transpose(0, 2, 1, 3)) for x in (q, k, v)]
    mask = jax.numpy.asarray(there) if case.mask == "padded" else None

    def loss(q: Any, k: Any, v: Any) -> Any:
        out = jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=case.mask == "causal")
        return (out**2).sum()

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    return lambda: [x.transpose(0, 2, 1, 3) for x in jax.block_until_ready(compiled(*given))]


LIBRARIES: dict[str, Callable[[Case], Call]] = {"Wengert": of_wengert, "PyTorch": of_torch, "JAX": of_jax}


def serve(library: str, case: str) -> None:
    """Do the work for each line that is read, and write what it took."""
    LIBRARIES[library](Case(1, 1, 16, 16, ""))()
    call = LIBRARIES[library](CASES[case])
    forget_peak()
    before = resident_bytes("VmRSS")
    checksum = [float(np.abs(np.asarray(x, dtype="f8")).sum()) for x in call()]
    for _ in range(WARM):
        call()
    print(json.dumps(checksum), flush=True)
    for _ in sys.stdin:
        call()  # who had the cores before had the caches, too
        print(json.dumps([statistics.median([_timed(call) for _ in range(CALLS)]), _peak(before)]), flush=True)


def _timed(call: Call) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _peak(before: int) -> int:
    return resident_bytes("VmHWM") - before


def measured(case: str) -> dict[str, tuple[float, float]]:
    """Return each library's median, and its peak of memory."""
    servers: dict[str, subprocess.Popen[str]] = {}
    sums: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in LIBRARIES:
            command = [sys.executable, "-m", "benchmarks.attention", "--serve", name, case]
            pipe, environment = subprocess.PIPE, with_caches_in(folder)
            server = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True)
            sums[name] = json.loads(_line(server))
            servers[name] = server
    for name, found in sums.items():
        np.testing.assert_allclose(found, sums["PyTorch"], rtol=1e-4, err_msg=f"{name}: {case}")
    samples: dict[str, list[list[float]]] = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, server in servers.items():
            assert server.stdin is not None
            server.stdin.write("\n")
            server.stdin.flush()
            samples[name].append(json.loads(_line(server)))
    for server in servers.values():
        server.communicate()
    return {
        name: (statistics.median([seconds for seconds, _ in taken]), taken[-1][1]) for name, taken in samples.items()
    }


def _line(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    return server.stdout.readline()


def main() -> None:
    """Measure all cases, and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=2, metavar=("LIBRARY", "CASE"), help="be one of the processes")
    parser.add_argument("--output", type=Path, default=RESULTS / "attention.md", help="where the table goes")
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    facts = machine.describe(["wengert", "llvmlite", "torch", "jax", "jaxlib"])
    keeper = Keeper("Attention, beside PyTorch and JAX", "python -m benchmarks.attention", facts, options.output)
    rows: list[list[str]] = []
    for case in CASES:
        found = measured(case)
        seconds = {name: taken for name, (taken, _) in found.items()}
        best = min([taken for name, taken in seconds.items() if name != "Wengert"])
        cells = [f"{format_seconds(taken)} ({format_bytes(peak)})" for taken, peak in found.values()]
        rows.append([case, f"{seconds['Wengert'] / best:.2f}", *cells])
        keeper.keep([_section(rows)])
    keeper.finish([_section(rows)])


def _section(rows: list[list[str]]) -> Section:
    return Section("Attention and its gradient", ["attention", "ratio", *LIBRARIES], rows, NOTE)


if __name__ == "__main__":
    main()
