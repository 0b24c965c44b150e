"""Generated kernels of convolution and pooling, and PyTorch's where it is installed, on one core: GFLOP/s.

    python -m benchmarks.convolutions [--bfloat16] [part of a name]...

With --bfloat16, factors are rounded to it, and PyTorch's arrays are of it. Output, gradient by the input, gradient by
the weights; the best of several runs, in turn, by the processor's clock.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.products import PROTOTYPE, empty, numbers
from wengert.compile.kernels import Kernel
from wengert.compile.llvm.compiling import compile_for_good, module_of
from wengert.compile.llvm.convolution_steps import steps_for
from wengert.compile.llvm.machine import host_machine
from wengert.compile.llvm.matrix_tiles import with_tiles
from wengert.compile.llvm.target import host_target

Array = np.ndarray
Call = Callable[[], object]
ROUNDS = 12


class Layer(NamedTuple):
    """A layer of a model: shape of the input, filters, window, stride, padding, groups."""

    images: tuple[int, int, int, int]
    filters: int
    window: int
    stride: int = 1
    padding: int = 0
    groups: int = 1


LAYERS = {
    "CNN, first": Layer((64, 1, 28, 28), 16, 3, padding=1),
    "CNN, second": Layer((64, 16, 14, 14), 32, 3, padding=1),
    "ResNet, 3 x 3 on 56 x 56": Layer((4, 64, 56, 56), 64, 3, padding=1),
    "ResNet, 1 x 1 on 56 x 56": Layer((4, 64, 56, 56), 256, 1),
    "ResNet, 1 x 1, stride 2": Layer((4, 256, 56, 56), 128, 1, stride=2),
    "ResNet, 3 x 3, stride 2": Layer((4, 128, 28, 28), 128, 3, stride=2, padding=1),
    "ResNet, 7 x 7, stride 2": Layer((2, 3, 224, 224), 64, 7, stride=2, padding=3),
    "three colours, 3 x 3": Layer((32, 3, 32, 32), 16, 3, padding=1),
    "ResNet, 3 x 3 on 7 x 7": Layer((4, 512, 7, 7), 512, 3, padding=1),
    "depthwise, 3 x 3": Layer((4, 96, 56, 56), 96, 3, padding=1, groups=96),
}


def call_of(name: str, inputs: list[Array], out: tuple[int, ...], params: dict[str, Any], narrow: bool) -> Call:
    """Return what runs a primitive's kernels on one thread."""
    steps = steps_for(name, [x.shape for x in inputs], inputs[0].dtype, params, narrow)
    assert steps is not None
    machine = with_tiles(host_machine(), host_target()) if narrow else host_machine()
    kernels = [recipe.kernel(machine) for recipe in steps.recipes]
    addresses = {name: place for made in kernels for name, place in compile_for_good(module_of([made])).items()}
    arrays = [*inputs, empty(out), empty((steps.temporary,))]
    memory = empty((max([kernel.scratch for kernel in kernels]) // 4 + 16,))

    def prepared(kernel: Kernel, places: tuple[int, ...]) -> tuple[Any, Any, int]:
        pointers = (ctypes.c_void_p * len(places))(*[arrays[place].ctypes.data for place in places])
        return PROTOTYPE(addresses[kernel.name]), pointers, kernel.units

    calls = [prepared(kernel, places) for kernel, places in zip(kernels, steps.operands)]

    def call() -> object:
        for function, pointers, units in calls:
            function(pointers, 0, units, memory.ctypes.data)
        return arrays

    return call


def natives(layer: Layer, narrow: bool) -> tuple[list[Call], int]:
    """Return the calls of output and gradients, and the arithmetic operations of each."""
    batch, channels, *extents = layer.images
    x = numbers(*layer.images)
    weight = numbers(layer.filters, channels // layer.groups, layer.window, layer.window)
    out = [(n + 2 * layer.padding - layer.window) // layer.stride + 1 for n in extents]
    y = numbers(batch, layer.filters, *out)
    params: dict[str, Any] = {
        "stride": (layer.stride,) * 2,
        "padding": ((layer.padding,) * 2,) * 2,
        "dilation": (1, 1),
        "groups": layer.groups,
    }
    calls = [
        call_of("convolve", [x, weight], y.shape, params, narrow),
        call_of("convolve_transpose_x", [y, weight], x.shape, {**params, "extents": tuple(extents)}, narrow),
        call_of("convolve_transpose_weight", [y, x], weight.shape, {**params, "kernel": weight.shape[2:]}, narrow),
    ]
    return calls, 2 * y.size * weight[0].size


def rivals(layer: Layer, narrow: bool) -> list[Call]:
    """Return PyTorch's calls for the same, on one thread; none if it is not installed."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        return []
    torch.set_num_threads(1)
    dtype = torch.bfloat16 if narrow else torch.float32
    x = torch.randn(*layer.images, dtype=dtype)
    weight = torch.randn(layer.filters, layer.images[1] // layer.groups, layer.window, layer.window, dtype=dtype)
    settings: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
    y = torch.nn.functional.conv2d(x, weight, **settings)

    def backward(x_too: bool, weight_too: bool) -> Call:
        moves = [layer.stride] * 2, [layer.padding] * 2, [1, 1], False, [0, 0], layer.groups
        wanted = [x_too, weight_too, False]
        return lambda: torch.ops.aten.convolution_backward(y, x, weight, None, *moves, wanted)

    return [lambda: torch.nn.functional.conv2d(x, weight, **settings), backward(True, False), backward(False, True)]


def measured(calls: list[Call]) -> list[float]:
    """Return the least time of each call, in seconds of the processor."""
    best = [float("inf")] * len(calls)
    for _ in range(ROUNDS):
        for place, call in enumerate(calls):
            call()  # so that the caches hold what this call works on, not what the one before did
            start = time.process_time()
            call()
            best[place] = min(best[place], time.process_time() - start)
    return best


def main(wanted: list[str]) -> None:
    narrow = "--bfloat16" in wanted
    wanted = [part for part in wanted if part != "--bfloat16"]
    print(f"{'GFLOP/s on one core':28}{'output':>18}{'input gradient':>18}{'weight gradient':>18}")
    for name, layer in LAYERS.items():
        if wanted and not any([part in name for part in wanted]):
            continue
        calls, flops = natives(layer, narrow)
        others = rivals(layer, narrow)
        times = measured([*calls, *others])
        cells = []
        for place in range(3):
            mine = flops / times[place] / 1e9
            other = f" ({flops / times[3 + place] / 1e9:.0f})" if others else ""
            cells.append(f"{mine:.0f}{other}")
        print(f"{name:28}" + "".join([f"{cell:>18}" for cell in cells]))


if __name__ == "__main__":
    main(sys.argv[1:])
