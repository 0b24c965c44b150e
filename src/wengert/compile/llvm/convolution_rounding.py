"""Convolutions of factors that are rounded to bfloat16: which gain by it, and the packing of their weights.

Sums are of float32. Where a processor multiplies pairs of bfloat16 numbers, elements of planes are pairs of channels
that are neighbours, so that any tap of any window reads whole pairs; elsewhere they are rounded numbers. Weights are
rounded once for all images, by a kernel of their own, and laid out in the order in which sums take them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..kernels import Kernel
from ..scalar_ir import FLOAT32
from .convolution_code import Parts, PlaneCode, Work, grain_for
from .convolution_geometry import Convolution
from .convolution_planes import Line, channels_of, write_line
from .convolution_pointwise import is_pointwise
from .convolution_product import Correlation
from .machine import Machine
from .products_layout import NARROW_EXTENT
from .products_matrix import SIDE
from .vectors import SYMBOL

LEAST_TERMS = 16
"""Channels times taps that a sum is over, at least, for pairs to be worth the packing; a single channel has none."""
LEAST_STEP = 8
"""Pairs of channels, of the 16 that a tile register has room for, that must be there for tiles to be used."""
LEAST_USES = 8
"""Channels of the result times taps that share the rounding of an element, at least."""


def form_of(part: Correlation, machine: Machine) -> str:
    """Return what a machine's kernels round factors to: as for Planes."""
    tiled = part._replace(form="tiles")
    if machine.tiles and part.breadth % SIDE == part.depth % 2 == 0 and tiled.step >= LEAST_STEP:
        return "tiles"
    return "pairs" if machine.bfloat16 else "rounded"


def rounds_output(shape: Convolution) -> bool:
    """Return whether the factors of a convolution's output are rounded; the same on all machines."""
    return _rounds(shape, shape.depth, shape.breadth)


def rounds_input_gradient(shape: Convolution) -> bool:
    """Return whether the factors of a convolution's gradient by its input are rounded; the same on all machines."""
    return _rounds(shape, shape.breadth, shape.depth)


def form_of_weights(machine: Machine) -> str:
    """Return what a machine's kernels round factors of the gradient by the weights to, whose pairs are of columns."""
    return "halves" if machine.bfloat16 and machine.masks else "rounded"


def rounds_weight_gradient(shape: Convolution) -> bool:
    """Return whether the factors of a convolution's gradient by its weights are rounded; the same on all machines."""
    taps = shape.window[0] * shape.window[1]
    gains = shape.depth * taps >= LEAST_TERMS and shape.breadth * taps >= LEAST_USES
    return shape.narrow and shape.dtype == FLOAT32 and gains


def _rounds(shape: Convolution, summed: int, made: int) -> bool:
    is_asked = shape.narrow and shape.dtype == FLOAT32 and not is_pointwise(shape)
    taps = shape.window[0] * shape.window[1]
    if taps == 1:
        return is_asked and min(summed, made) >= NARROW_EXTENT
    return is_asked and summed > 1 and summed * taps >= LEAST_TERMS and made * taps >= LEAST_USES


def packed_length(shape: Convolution) -> int:
    """Return how many elements packed weights have at most."""
    return shape.filters * shape.depth * shape.window[0] * shape.window[1]


def with_packed_weights(parts: Sequence[Correlation], machine: Machine) -> list[Correlation]:
    """Return correlations of rounded factors, which read packed weights."""
    form, made, begin = form_of(parts[0], machine), [], 0
    for part in parts:
        rounded = part._replace(form=form, packed=begin)
        length = rounded.sums_length
        made.append(rounded._replace(weights=(part.breadth * length, length, len(part.taps))))
        begin += part.groups * part.breadth * length
    return made


def packing_kernel(parts: Sequence[Correlation], machine: Machine) -> Kernel:
    """Return the kernel that packs the weights of correlations. Operands: weights, packed weights."""
    first = parts[0]
    code, written = PlaneCode(FLOAT32, machine), Parts()
    with code.when(code.compare("%begin", "slt", "%end")), code.loop("%begin", "%end") as unit:
        group, row = code.divide(unit, first.breadth)
        for part, packed in zip(parts, with_packed_weights(parts, machine)):
            if part.taps:
                source = code.at(code.operand(0), (group, part.weights[0]), (row, part.weights[1]))
                target = code.at(code.operand(1), (packed.packed, 1))
                if packed.form == "tiles":
                    block, line = code.divide(unit, SIDE)
                    target = code.at(target, (block, SIDE * packed.sums_length), (line, packed.step))
                    _write_blocks(code, part, packed, source, target)
                else:
                    target = code.at(target, (unit, packed.sums_length))
                    _write_filter(code, part, packed, source, target)
    written.add(f"void {SYMBOL}(ptr %operands, i64 %begin, i64 %end, ptr %scratch)", code)
    units = first.groups * first.breadth
    moved = sum([8 * units * part.depth * len(part.taps) for part in parts])
    work = Work(0, moved)
    return written.kernel("convolution_packing", units, grain_for(units, work), 0, work)


def _write_filter(code: PlaneCode, part: Correlation, packed: Correlation, source: str, target: str) -> None:
    """Write the packing of what one channel of the result is made with."""
    numbers = [tap.weight for tap in part.taps]
    together = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    lines = [(numbers[0], len(numbers))] if together else [(number, 1) for number in numbers]
    apart = part.weights[2]
    any_line = Line(1, 1, False, False, packed.form, apart)
    for channel, line in channels_of(code, packed.channels, any_line, alone=packed.alone):
        begin = code.at(source, (channel, any_line.each * apart))
        end = code.at(target, (channel, len(numbers)))
        for place, (number, count) in enumerate(lines):
            write_line(code, line._replace(count=count), code.at(begin, (number, 1)), code.at(end, (place, 1)))


def _write_blocks(code: PlaneCode, part: Correlation, packed: Correlation, source: str, target: str) -> None:
    """Write the same for tiles: what a step of a sum takes of 16 filters lies together, filter by filter."""
    apart, step, taps = part.weights[2], packed.step, len(part.taps)
    with code.loop(0, packed.channels // step) as block, code.loop(0, step) as place:
        begin = code.at(source, (block, 2 * step * apart), (place, 2 * apart))
        end = code.at(target, (block, taps * SIDE * step), (place, 1))
        for number, tap in enumerate(part.taps):
            line = Line(1, 1, False, False, packed.form, apart)
            write_line(code, line, code.at(begin, (tap.weight, 1)), code.at(end, (number, SIDE * step)))
