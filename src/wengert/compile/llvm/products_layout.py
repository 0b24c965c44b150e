"""Matrix products as they are asked for, and the same products in the form that is computed best."""

from __future__ import annotations

from typing import NamedTuple

from ..nests import Access, Counter, Store
from ..scalar_ir import FLOAT32, DType
from .machine import Machine
from .products_plan import Plan, Shape, fits_matrix, plan_product


class Product(NamedTuple):
    """A matrix product and what becomes of it: sum over k of a[batch..., i, k] * b[batch..., k, j].

    Attributes:
        name: for people who read code and profiles; letters, digits and underscores.
        batch: extents of the batch axes.
        m, n, k: extents of i, j and k.
        a: the left factor, with strides over the batch axes, i and k.
        b: the right factor, with strides over the batch axes, k and j.
        operands: types of the memory that is used, in the order of its addresses. Stores may be to memory that inputs
            are from, element by element in place, but not to the factors'.
        inputs: for the name of each input Scalar of what is stored: where it comes from, with strides over (or
            counted along) the batch axes, i and j. The Scalar of the name "product" is the product.
        stores: what is stored, with strides over the batch axes, i and j.
        narrow: whether the factors, of float32, are first rounded to bfloat16; sums are of float32 all the same.
    """

    name: str
    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    a: Access
    b: Access
    operands: tuple[DType, ...]
    inputs: dict[str, Access | Counter]
    stores: tuple[Store, ...]
    narrow: bool = False

    @property
    def dtype(self) -> DType:
        """Type of the factors and of the product."""
        return self.operands[self.a.operand]


NARROW_EXTENT = 32
"""Least extent of a result for which bfloat16 factors are faster: packing them is shared by so many elements."""
NARROW_DEPTH = 16
"""Least number of terms of a sum for which they are; and terms are taken in pairs."""


def gains_by_rounding(product: Product) -> bool:
    """Return whether a product is faster with factors that are rounded to bfloat16; the same on all machines."""
    merged = _merged(_squeezed(product))
    is_large = min(merged.m, merged.n) >= NARROW_EXTENT and merged.k >= NARROW_DEPTH
    return product.dtype == FLOAT32 and is_large and merged.k % 2 == 0


def normalised(product: Product, machine: Machine) -> tuple[Product, Plan]:
    """Return an equal product in the form that costs least, and how to compute it."""
    product = _merged(_squeezed(product))
    turned = _merged(_squeezed(transposed(product)))
    both = [(other, _planned(other, machine)) for other in (product, turned)]
    return min(both, key=_cost)


def _cost(planned: tuple[Product, Plan]) -> float:
    product, plan = planned
    elements = product.m * product.n
    for extent in product.batch:
        elements *= extent
    size = product.dtype.itemsize
    each = [_access_cycles(access.strides[-1] * size, access.strides[-1], plan.lanes) for access in _accesses(product)]
    return plan.cycles + elements * sum(each)


def _access_cycles(pitch: int, stride: int, lanes: int) -> float:
    """Return about how many cycles an element of the epilogue's memory takes: those of one cache set are slow."""
    if stride in (0, 1):
        return 1.5 / lanes
    return 8.0 if pitch % 4096 == 0 else 2.0 if pitch % 1024 == 0 else 1.0


def _planned(product: Product, machine: Machine) -> Plan:
    batches = 1
    for extent in product.batch:
        batches *= extent
    left, right = product.a.strides[-2:], product.b.strides[-2:]
    extents = max(1, product.m), max(1, product.n), product.k
    shape = Shape(*extents, product.dtype.itemsize, *left, *right)
    form = ""
    if product.narrow:
        form = "pairs" if machine.bfloat16 and product.k % 2 == 0 and product.k >= 8 else "rounded"
        if machine.tiles and fits_matrix(shape):
            form = "tiles"
    return plan_product(shape, batches, machine, form)


def transposed(product: Product) -> Product:
    """Return the same product with rows and columns exchanged."""
    axes = len(product.batch)
    order = (*range(axes), axes + 1, axes)
    inputs: dict[str, Access | Counter] = {}
    for name, access in product.inputs.items():
        if isinstance(access, Counter):
            inputs[name] = Counter(order[access.axis])
        else:
            inputs[name] = _ordered(access, order)
    return product._replace(
        m=product.n,
        n=product.m,
        a=_ordered(product.b, order),
        b=_ordered(product.a, order),
        inputs=inputs,
        stores=tuple([store._replace(target=_ordered(store.target, order)) for store in product.stores]),
    )


def _ordered(access: Access, order: tuple[int, ...]) -> Access:
    return access._replace(strides=tuple([access.strides[axis] for axis in order]))


def _squeezed(product: Product) -> Product:
    """Give axes of one element the strides that suit: what is never taken costs nothing."""
    axes = len(product.batch)

    def suited(access: Access, row: int, column: int, contiguous: int) -> Access:
        strides = list(access.strides)
        for axis, extent in enumerate((*product.batch, row, column)):
            if extent == 1:
                strides[axis] = 1 if axis == contiguous else 0
        return access._replace(strides=tuple(strides))

    inputs = {
        name: access if isinstance(access, Counter) else suited(access, product.m, product.n, axes + 1)
        for name, access in product.inputs.items()
    }
    return product._replace(
        a=suited(product.a, product.m, product.k, axes + 1),
        b=suited(product.b, product.k, product.n, axes + 1),
        inputs=inputs,
        stores=tuple([s._replace(target=suited(s.target, product.m, product.n, axes + 1)) for s in product.stores]),
    )


def _merged(product: Product) -> Product:
    """Make batch axes along which the right factor is the same part of the rows, where memory is laid out so."""
    if any([isinstance(access, Counter) for access in product.inputs.values()]):
        return product
    for axis in reversed(range(len(product.batch))):
        extent, rows = product.batch[axis], len(product.batch)
        accesses = [product.a, *_accesses(product)]
        together = all([access.strides[axis] == product.m * access.strides[-2] for access in accesses])
        if extent == 1 or (product.b.strides[axis] == 0 and (together or product.m == 1)):
            move = product.m == 1 and extent != 1
            return _merged(_without(product, axis, rows if move else None)._replace(m=product.m * extent))
    return product


def _accesses(product: Product) -> list[Access]:
    """Return what the epilogue loads and stores."""
    loaded = [access for access in product.inputs.values() if isinstance(access, Access)]
    return [*loaded, *[store.target for store in product.stores]]


def _without(product: Product, axis: int, rows: int | None) -> Product:
    """Drop a batch axis; with `rows`, the axis of rows takes its strides."""

    def shorter(access: Access, moved: bool = True) -> Access:
        strides = list(access.strides)
        if rows is not None and moved:
            strides[rows] = strides[axis]
        del strides[axis]
        return access._replace(strides=tuple(strides))

    return product._replace(
        batch=product.batch[:axis] + product.batch[axis + 1 :],
        a=shorter(product.a),
        b=shorter(product.b, moved=False),
        inputs={name: shorter(access) for name, access in product.inputs.items() if isinstance(access, Access)},
        stores=tuple([store._replace(target=shorter(store.target)) for store in product.stores]),
    )
