"""What is done with the elements of a matrix product before they are stored: a fused elementwise function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..nests import Access, Counter, Store
from ..scalar_ir import BOOL, DType, KernelError, Scalar, ScalarFunction, topological, verify
from ..scalar_math import lower
from .products_code import SIZES, Code
from .vectors import STORED, TYPES, literal, spelled, suffix, vector, write


class Corner(NamedTuple):
    """Where a piece of the result lies: indices of the batch, of its first row and of its first column."""

    batch: Sequence[str | int]
    row: str | int
    column: str | int

    @property
    def indices(self) -> tuple[str | int, ...]:
        """All of them, in the order of an Access's strides."""
        return (*self.batch, self.row, self.column)


class Epilogue(NamedTuple):
    """A fused function at machine level, and the memory that it works on."""

    inputs: dict[str, Access | Counter]
    stores: tuple[Store, ...]
    operands: tuple[DType, ...]
    addresses: tuple[str, ...]

    @property
    def plain(self) -> bool:
        """Whether it only stores the product, in rows of elements that follow each other."""
        first = self.stores[0]
        return (
            len(self.stores) == 1
            and (first.scalar.op, first.scalar.payload) == ("input", "product")
            and first.target.strides[-1] == 1
            and not first.add
        )


def machine_stores(stores: Sequence[Store]) -> tuple[Store, ...]:
    """Bring what is stored down to machine operations that are right for all arguments."""
    scalars = tuple([store.scalar for store in stores])
    inputs = tuple([scalar for scalar in topological(scalars) if scalar.op == "input"])
    function, _ = lower(ScalarFunction("epilogue", inputs, scalars), anywhere=True)
    verify(function, machine=True)
    return tuple([store._replace(scalar=scalar) for store, scalar in zip(stores, function.outputs)])


class _Rows(NamedTuple):
    """A column of vectors in the making: which row, and what is known for all of them."""

    lanes: int
    mask: str | None
    corner: Corner
    row: str


def write_rows(
    code: Code, epilogue: Epilogue, lanes: int, corner: Corner, rows: str | int, tile: str, pitch: int, mask: str | None
) -> None:
    """Write the epilogue of a tile's vectors that stand one above another.

    Args:
        code: where to write.
        epilogue: what is computed and stored.
        lanes: elements of a vector.
        corner: where the first vector's first element lies in the result.
        rows: how many there are.
        tile, pitch: address of the first vector of the product, and the number of elements from one to the next.
        mask: which lanes are within the result; None for all.
    """
    bases: dict[Access, str] = {}
    known: dict[Scalar, str] = {}
    scalars = [store.scalar for store in epilogue.stores]
    inputs = {scalar.payload: scalar for scalar in topological(scalars) if scalar.op == "input"}
    accesses = [epilogue.inputs[name] for name in inputs if name != "product"] + [s.target for s in epilogue.stores]
    for access in accesses:
        if isinstance(access, Access) and access not in bases:
            bases[access] = _address(code, epilogue, access, corner)
    for name, scalar in inputs.items():
        source = epilogue.inputs.get(name)
        if name != "product" and _uniform(source, corner):
            known[scalar] = _input(code, epilogue, scalar, bases, _Rows(lanes, mask, corner, "0"))
    with code.loop(0, rows) as row:
        values = dict(known)
        place = _Rows(lanes, mask, corner, row)
        for name, scalar in inputs.items():
            if name == "product":
                at = code.element(TYPES[scalar.dtype], tile, (row, pitch))
                values[scalar] = code.load(TYPES[scalar.dtype], lanes, at)
            elif scalar not in values:
                values[scalar] = _input(code, epilogue, scalar, bases, place)
        for scalar in topological(scalars):
            if scalar not in values:
                values[scalar] = _operation(code, scalar, values, lanes)
        for store in epilogue.stores:
            _store(code, epilogue, store, values, bases[store.target], place)


def walked(epilogue: Epilogue) -> list[Access]:
    """Return what an epilogue reads and writes in rows of elements that follow each other."""
    accesses = dict.fromkeys([*epilogue.inputs.values(), *[store.target for store in epilogue.stores]])
    return [
        access
        for access in accesses
        if isinstance(access, Access) and access.strides[-1] == 1 and access.strides[-2] != 0
    ]


def write_prefetches(
    code: Code, epilogue: Epilogue, accesses: list[Access], corner: Corner, rows: str | int, columns: int
) -> None:
    """Write prefetches of what an epilogue will read and write of some rows and columns.

    A tile touches a few lines in many rows, more than a processor follows by itself; while others are computed they
    can arrive. What lies beyond the end is not fetched, and harms nothing.
    """
    written = {store.target for store in epilogue.stores}
    for access in accesses:
        kind = STORED[epilogue.operands[access.operand]]
        base = _address(code, epilogue, access, corner)
        with code.loop(0, rows) as row:
            for column in range(0, columns, 64 // SIZES[kind]):
                at = code.element(kind, base, (row, access.strides[-2]), (column, 1))
                given = [("ptr", at), ("i32", str(int(access in written))), ("i32", "3"), ("i32", "1")]
                code.call("prefetch.p0", "void", given)


def _uniform(source: Access | Counter | None, corner: Corner) -> bool:
    """Return whether an input is the same in all rows of a tile."""
    if isinstance(source, Counter):
        return source.axis != len(corner.batch)
    return source is not None and source.strides[-2] == 0


def _operation(code: Code, scalar: Scalar, values: dict[Scalar, str], lanes: int) -> str:
    if scalar.op == "constant":
        text = literal(scalar.payload, scalar.dtype)
        return text if lanes == 1 else code.text.number(scalar.payload, scalar.dtype, lanes)
    return write(code, scalar, [values[operand] for operand in scalar.operands], lanes)


def _address(code: Code, epilogue: Epilogue, access: Access, corner: Corner) -> str:
    """Return the address of the element at a corner."""
    if access.picks or access.inside:
        raise KernelError("an epilogue of a matrix product neither picks elements by data nor leaves any out")
    kind, pointer = STORED[epilogue.operands[access.operand]], epilogue.addresses[access.operand]
    terms = [(index, stride) for index, stride in zip(corner.indices, access.strides) if stride]
    return code.element(kind, pointer, (1, access.offset), *terms)


def _input(code: Code, epilogue: Epilogue, scalar: Scalar, bases: dict[Access, str], place: _Rows) -> str:
    """Return a vector of an input's elements."""
    source = epilogue.inputs[scalar.payload]
    if isinstance(source, Counter):
        return _counted(code, source, place)
    return _load(code, source, scalar.dtype, bases[source], place)


def _counted(code: Code, counter: Counter, place: _Rows) -> str:
    axes = len(place.corner.batch)
    index = place.corner.indices[counter.axis]
    if counter.axis == axes:
        index = code.add(index, place.row)
    every = code.splat(str(index), "i64", place.lanes) if place.lanes > 1 else str(code.add(index, 0))
    if counter.axis <= axes or place.lanes == 1:
        return every
    of = vector("i64", place.lanes)
    return code.value(f"add {of} {every}, {spelled('i64', range(place.lanes))}")


def _load(code: Code, access: Access, dtype: DType, base: str, place: _Rows) -> str:
    """Return a vector of elements of an operand, in the lanes that are within the result."""
    kind, lanes, stride = STORED[dtype], place.lanes, access.strides[-1]
    at = code.element(kind, base, (place.row, access.strides[-2]))
    if lanes == 1 or (stride == 1 and _maskable(kind, place)):
        loaded = code.load(kind, lanes, at, place.mask)
    elif stride == 0:
        loaded = code.splat(code.load(kind, 1, at), kind, lanes)
    else:
        of, flags = vector(kind, lanes), vector("i1", lanes)
        given = [(vector("ptr", lanes), _places(code, kind, at, stride, lanes)), ("i32", str(SIZES[kind]))]
        given += [(flags, _flags(code, place)), (of, "zeroinitializer")]
        loaded = code.call(f"masked.gather.{suffix(kind, lanes)}.{suffix('p0', lanes)}", of, given)
    if dtype == BOOL:
        return code.value(f"icmp ne {vector(kind, lanes)} {loaded}, {'zeroinitializer' if lanes > 1 else '0'}")
    return loaded


def _maskable(kind: str, place: _Rows) -> bool:
    """Return whether neighbours may be accessed at once: LLVM 22 may widen masks of eight bytes, and write too many."""
    return place.mask is None or kind != "i8" or place.lanes != 8


def _flags(code: Code, place: _Rows) -> str:
    return place.mask or code.text.number(True, BOOL, place.lanes)


def _places(code: Code, kind: str, at: str, stride: int, lanes: int) -> str:
    offsets = spelled("i64", [lane * stride for lane in range(lanes)])
    return code.value(f"getelementptr {kind}, ptr {at}, {vector('i64', lanes)} {offsets}")


def _store(code: Code, epilogue: Epilogue, store: Store, values: dict[Scalar, str], base: str, place: _Rows) -> None:
    """Write a vector of elements into an operand, in the lanes that are within the result."""
    dtype, lanes, stride = epilogue.operands[store.target.operand], place.lanes, store.target.strides[-1]
    kind, value = STORED[dtype], values[store.scalar]
    if store.add:
        before = _load(code, store.target, dtype, base, place)
        value = code.value(f"{'fadd' if dtype.kind == 'f' else 'add'} {vector(kind, lanes)} {before}, {value}")
    if dtype == BOOL:
        value = code.value(f"zext {vector('i1', lanes)} {value} to {vector('i8', lanes)}")
    at = code.element(kind, base, (place.row, store.target.strides[-2]))
    if lanes == 1 or (stride == 1 and _maskable(kind, place)):
        code.store(kind, lanes, value, at, place.mask)
        return
    given = [(vector(kind, lanes), value), (vector("ptr", lanes), _places(code, kind, at, stride, lanes))]
    given += [("i32", str(SIZES[kind])), (vector("i1", lanes), _flags(code, place))]
    code.call(f"masked.scatter.{suffix(kind, lanes)}.{suffix('p0', lanes)}", "void", given)
