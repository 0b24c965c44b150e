"""Kernels of pooling: largest elements and sums of windows, what reads and writes where the largest are, transposes.

A unit of work is one plane: a channel of an image. It is copied to scratch, padded and divided by the strides
(`convolution_planes`), so that an element of the window is a run of vectors for all windows of a row. What goes back to
the image's elements is added up in such planes, one element of the window after the other: windows may overlap. The
largest element is the first of equals, in row-major order; NaN counts as larger than all numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..kernels import Kernel
from ..scalar_ir import DType
from .convolution_code import Index, Parts, PlaneCode, Work, float_dtype, grain_for, round_up
from .convolution_geometry import Pair, Planes, planes_for, window_places, window_taps
from .convolution_planes import write_copy
from .machine import Machine
from .pooling_pairs import pairs_fit, pairs_largest, pairs_transpose
from .pooling_planes import write_back
from .vectors import SYMBOL, spelled, vector

LEAST = "0xFFF0000000000000"
"""Minus infinity."""


class Pooling(NamedTuple):
    """Windows on planes.

    Attributes:
        planes: how many: images times channels.
        image: their extents.
        window, stride, padding, dilation: for each axis; padding as rows before and after.
        dtype: float32 or float64.
    """

    planes: int
    image: Pair
    window: Pair
    stride: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair
    dtype: DType

    @property
    def out(self) -> Pair:
        """Extents of the output."""
        return window_places(self.image, self.window, self.stride, self.padding, self.dilation)


def max_pool_kernel(shape: Pooling, machine: Machine) -> Kernel:
    """Return the kernel of the largest elements of windows. Operands: input, output."""
    if pairs_fit(shape.image, shape.window, shape.stride, shape.padding, shape.dilation):
        return _pairs_kernel(shape, machine, transpose=False)
    pool = _Pool(shape, machine, LEAST)
    code = pool.code
    with pool.plane() as plane:
        pool.copy(code.operand(0), plane, "%scratch", LEAST)
        with pool.vectors() as place:
            largest = ""
            for run in pool.runs:
                loaded = pool.load(run, place)
                largest = _larger(code, loaded, largest)[1] if largest else loaded
            pool.store(code.operand(1), plane, place, largest)
    return pool.kernel("max_pool", 2)


def max_pool_transpose_kernel(shape: Pooling, machine: Machine) -> Kernel:
    """Return the kernel that adds each element of y to where its window's largest is. Operands: y, input, output."""
    if pairs_fit(shape.image, shape.window, shape.stride, shape.padding, shape.dilation):
        return _pairs_kernel(shape, machine, transpose=True)
    pool = _Pool(shape, machine, LEAST, sums=True)
    code = pool.code
    with pool.plane() as plane:
        pool.copy(code.operand(1), plane, "%scratch", LEAST)
        code.fill(pool.totals, pool.layout.size)
        with pool.vectors() as place:
            given = pool.given(code.operand(0), plane, place)
            first = pool.first_largest(place)
            for number, run in enumerate(pool.runs):
                flags = code.value(f"icmp eq {pool.counts} {first}, {pool.count(number)}")
                share = code.value(f"select {pool.flags} {flags}, {code.of} {given}, {code.of} zeroinitializer")
                pool.add(run, place, share)
        pool.back(code.operand(2), plane)
    return pool.kernel("max_pool_transpose", 3)


def max_pool_take_kernel(shape: Pooling, machine: Machine) -> Kernel:
    """Return the kernel that reads y where the windows' largest elements are. Operands: y, input, output."""
    pool = _Pool(shape, machine, LEAST, sums=True)
    code = pool.code
    code.fill(pool.totals, pool.layout.size)
    with pool.plane() as plane:
        pool.copy(code.operand(1), plane, "%scratch", LEAST)
        pool.copy(code.operand(0), plane, pool.totals, "0.0")
        with pool.vectors() as place:
            first = pool.first_largest(place)
            taken = "zeroinitializer"
            for number, run in enumerate(pool.runs):
                flags = code.value(f"icmp eq {pool.counts} {first}, {pool.count(number)}")
                there = code.vector_at(code.at(pool.totals, (place.offset, 1), (run, 1)))
                taken = code.value(f"select {pool.flags} {flags}, {code.of} {there}, {code.of} {taken}")
            pool.store(code.operand(2), plane, place, taken)
    return pool.kernel("max_pool_take", 3)


def sum_pool_kernel(shape: Pooling, machine: Machine) -> Kernel:
    """Return the kernel of the sums of windows. Operands: input, output."""
    pool = _Pool(shape, machine, "0.0")
    code = pool.code
    with pool.plane() as plane:
        pool.copy(code.operand(0), plane, "%scratch", "0.0")
        with pool.vectors() as place:
            total = ""
            for run in pool.runs:
                loaded = pool.load(run, place)
                total = code.value(f"fadd {code.of} {total}, {loaded}") if total else loaded
            pool.store(code.operand(1), plane, place, total)
    return pool.kernel("sum_pool", 2)


def sum_pool_transpose_kernel(shape: Pooling, machine: Machine) -> Kernel:
    """Return the kernel that sums y over the windows that an element lies in. Operands: y, output."""
    pool = _Pool(shape, machine, "0.0")
    code = pool.code
    with pool.plane() as plane:
        code.fill("%scratch", pool.layout.size)
        with pool.vectors() as place:
            given = pool.given(code.operand(0), plane, place)
            for run in pool.runs:
                pool.add(run, place, given)
        pool.back(code.operand(1), plane)
    return pool.kernel("sum_pool_transpose", 2)


def _larger(code: PlaneCode, new: str, largest: str) -> tuple[str, str]:
    """Return flags of where a new vector is larger, or the first NaN, and the larger one."""
    flags = vector("i1", code.lanes)
    above = code.value(f"fcmp ugt {code.of} {new}, {largest}")
    number = code.value(f"fcmp ord {code.of} {largest}, {largest}")
    taken = code.value(f"and {flags} {above}, {number}")
    return taken, code.value(f"select {flags} {taken}, {code.of} {new}, {code.of} {largest}")


class _Place(NamedTuple):
    """A vector of windows: their row, the first one's column, its offset in planes, and the mask of those that are."""

    row: str
    column: Index
    offset: Index
    mask: str | None


class _Pool:
    """A kernel of pooling in the making.

    Args:
        shape: the windows.
        machine: which vectors the code is for.
        border: what stands around the image.
        sums: whether there is a second set of planes in scratch.
    """

    def __init__(self, shape: Pooling, machine: Machine, border: str, *, sums: bool = False) -> None:
        self.shape = shape
        self.dtype = float_dtype(shape.dtype)
        self.code = code = PlaneCode(self.dtype, machine)
        taps = window_taps(shape.window, shape.padding, shape.dilation)
        self.layout: Planes = planes_for(taps, 1, shape.image, shape.stride, shape.out, 0)
        self.runs = [self.layout.offset(tap) for tap in taps]
        self.counts = vector(f"i{8 * self.dtype.itemsize}", code.lanes)
        self.flags = vector("i1", code.lanes)
        size = round_up(self.layout.size + code.lanes, 16)
        self.scratch = 2 * size if sums else size
        self.totals = code.at("%scratch", (size if sums else 0, 1))
        code.fill("%scratch", self.layout.size, border)

    def count(self, number: int) -> str:
        """Return the vector that holds a whole number."""
        bits = f"i{8 * self.dtype.itemsize}"
        return self.code.text.constant(self.counts, "<" + ", ".join([f"{bits} {number}"] * self.code.lanes) + ">")

    @contextmanager
    def plane(self) -> Iterator[str]:
        """Write the loop over the units of work."""
        code = self.code
        with code.when(code.compare("%begin", "slt", "%end")), code.loop("%begin", "%end") as plane:
            yield plane

    @contextmanager
    def vectors(self) -> Iterator[_Place]:
        """Write the loops over vectors of windows."""
        code = self.code
        rows, columns = self.shape.out
        with code.loop(0, rows) as row, code.loop(0, columns, code.lanes) as column:
            mask = None
            if columns % code.lanes:
                mask = code.lane_mask(code.lanes, code.value(f"sub i64 {columns}, {column}"))
            yield _Place(row, column, code.add(code.multiply(row, self.layout.pitch), column), mask)

    def copy(self, source: str, plane: str, target: str, fill: str) -> None:
        """Write the copy of a plane of an operand to scratch."""
        image = self.code.at(source, (plane, self.shape.image[0] * self.shape.image[1]))
        write_copy(self.code, self.layout, image, target, 0, self.shape.out[0] - 1, fill)

    def back(self, target: str, plane: str) -> None:
        """Write the copy of the sums in scratch to a plane of an operand."""
        image = self.code.at(target, (plane, self.shape.image[0] * self.shape.image[1]))
        write_back(self.code, self.layout, self.totals, image)

    def load(self, run: int, place: _Place) -> str:
        """Return an element of each window."""
        return self.code.vector_at(self.code.at("%scratch", (place.offset, 1), (run, 1)))

    def first_largest(self, place: _Place) -> str:
        """Return which of each window's elements is the first largest."""
        code = self.code
        largest, first = self.load(self.runs[0], place), "zeroinitializer"
        for number, run in enumerate(self.runs[1:], 1):
            taken, largest = _larger(code, self.load(run, place), largest)
            first = code.value(
                f"select {self.flags} {taken}, {self.counts} {self.count(number)}, {self.counts} {first}"
            )
        if not any([low for low, _ in self.shape.padding]):
            return first
        # The border is as small as anything can be: where all is, the first element that is there is the first largest.
        least = code.splat(LEAST, code.kind, code.lanes)
        nothing = code.value(f"fcmp oeq {code.of} {largest}, {least}")
        return code.value(
            f"select {self.flags} {nothing}, {self.counts} {self.first_inside(place)}, {self.counts} {first}"
        )

    def first_inside(self, place: _Place) -> str:
        """Return which of each window's elements is the first that lies in the image."""
        code, shape = self.code, self.shape
        numbers = vector("i64", code.lanes)
        begin = code.multiply(place.row, shape.stride[0])
        above: Index = 0
        for down in range(shape.window[0]):
            outside = code.compare(code.add(begin, down * shape.dilation[0]), "slt", shape.padding[0][0])
            above = code.add(above, code.value(f"zext i1 {outside} to i64"))
        total = code.splat(str(code.multiply(above, shape.window[1])), "i64", code.lanes)
        columns = code.value(
            f"add {numbers} {code.splat(str(place.column), 'i64', code.lanes)}, {spelled('i64', range(code.lanes))}"
        )
        stride = code.splat(str(shape.stride[1]), "i64", code.lanes)
        begins = code.value(f"mul {numbers} {columns}, {stride}")
        for across in range(shape.window[1]):
            bound = code.splat(str(shape.padding[1][0] - across * shape.dilation[1]), "i64", code.lanes)
            outside = code.value(f"icmp slt {numbers} {begins}, {bound}")
            total = code.value(f"add {numbers} {total}, {code.value(f'zext {self.flags} {outside} to {numbers}')}")
        return total if self.counts == numbers else code.value(f"trunc {numbers} {total} to {self.counts}")

    def add(self, run: int, place: _Place, share: str) -> None:
        """Write the addition of a vector to an element of each window."""
        address = self.code.at(self.totals, (place.offset, 1), (run, 1))
        total = self.code.value(f"fadd {self.code.of} {self.code.vector_at(address)}, {share}")
        self.code.store(self.code.kind, self.code.lanes, total, address)

    def _address(self, base: str, plane: str, place: _Place) -> str:
        rows, columns = self.shape.out
        return self.code.at(base, (plane, rows * columns), (place.row, columns), (place.column, 1))

    def given(self, base: str, plane: str, place: _Place) -> str:
        """Return an operand's elements for windows, zeros where there are none."""
        return self.code.load(self.code.kind, self.code.lanes, self._address(base, plane, place), place.mask)

    def store(self, base: str, plane: str, place: _Place, value: str) -> None:
        """Write an operand's elements for windows."""
        self.code.store(self.code.kind, self.code.lanes, value, self._address(base, plane, place), place.mask)

    def kernel(self, name: str, operands: int) -> Kernel:
        """Return the kernel."""
        return _kernel(name, self.shape, self.code, operands, self.scratch)


def _pairs_kernel(shape: Pooling, machine: Machine, *, transpose: bool) -> Kernel:
    """Return the kernel for windows of two columns that lie side by side."""
    code = PlaneCode(float_dtype(shape.dtype), machine)
    sizes = shape.image[0] * shape.image[1], shape.out[0] * shape.out[1]
    with code.when(code.compare("%begin", "slt", "%end")), code.loop("%begin", "%end") as plane:
        if transpose:
            addresses = [code.at(code.operand(n), (plane, size)) for n, size in enumerate((sizes[1], *sizes[:1] * 2))]
            pairs_transpose(code, shape.image, shape.window[0], addresses[0], addresses[1], addresses[2])
        else:
            addresses = [code.at(code.operand(n), (plane, size)) for n, size in enumerate(sizes)]
            pairs_largest(code, shape.image, shape.window[0], addresses[0], addresses[1])
    return _kernel("max_pool_transpose" if transpose else "max_pool", shape, code, 3 if transpose else 2, 0)


def _kernel(name: str, shape: Pooling, code: PlaneCode, operands: int, scratch: int) -> Kernel:
    """Return a kernel whose units are planes."""
    parts = Parts()
    parts.add(f"void {SYMBOL}(ptr %operands, i64 %begin, i64 %end, ptr %scratch)", code)
    out = shape.planes * shape.out[0] * shape.out[1]
    image = shape.planes * shape.image[0] * shape.image[1]
    work = Work(out * shape.window[0] * shape.window[1], (out + (operands - 1) * image) * shape.dtype.itemsize)
    size = (scratch + code.lanes) * shape.dtype.itemsize if scratch else 0
    return parts.kernel(name, shape.planes, grain_for(shape.planes, work), size, work)
