"""Packing of factors that many products share: a weight that is used in every step of a recurrence is packed once.

A product packs its right factor into panels that its tiles read one after another. For few rows that takes nearly as
long as the product. Where several products of a program have the same right factor, one step copies it into panels, and
each product becomes a batch of products, one for each panel, of factors that need no packing.
"""

from __future__ import annotations

import collections
from collections.abc import Hashable, Mapping

from .graph import Value
from .llvm.products import Product
from .lower import Step
from .lower_nests import finished
from .nests import Access, Counter, Nest, Operand, Phase, Store
from .plan import Part
from .scalar_ir import input_scalar

PANEL_BYTES = 128
"""Bytes of a row of a panel: two vectors of the widest kind, as many as tall tiles have."""
MOST_ROWS = 128
"""From so many rows on, packing costs little in comparison."""
FEW_USES = 4
"""With fewer products, packing for each of them costs about as much."""


def with_packed_factors(steps: list[Step], parts: Mapping[Value, Part]) -> list[Step]:
    """Return steps in which right factors that many products share are packed once, before the first of them.

    Args:
        steps: in order. Those of long loops write to the same arrays again: what is packed is then another factor.
        parts: arrays that lie in the memory of others.
    """

    def owner(value: Value) -> Value:
        return parts[value].whole if value in parts else value

    users: dict[Hashable, list[int]] = {}
    written: collections.Counter[Value] = collections.Counter()
    for place, step in enumerate(steps):
        if isinstance(step.kernel, Product) and _gains(step.kernel):
            key = _factor_key(step, step.kernel)
            users.setdefault((key, written[owner(key[0])]), []).append(place)
        written.update(map(owner, step.writes))
    packed: dict[int, Value] = {}
    before: dict[int, Step] = {}
    for places in users.values():
        if len(places) >= FEW_USES:
            step = before[places[0]] = _packing_step(steps[places[0]])
            packed.update(dict.fromkeys(places, step.writes[0]))
    made: list[Step] = []
    divided: dict[int, Product] = {}
    for place, step in enumerate(steps):
        if place in before:
            made.append(before[place])
        if place in packed:
            if id(step.kernel) not in divided:
                divided[id(step.kernel)] = _divided(step.kernel)
            step = _reading_panels(step, divided[id(step.kernel)], packed[place])
        made.append(step)
    return made


def _width(product: Product) -> int:
    return PANEL_BYTES // product.dtype.itemsize


def _gains(product: Product) -> bool:
    """Whether a product would be divided into panels, and has no rows to share what packing costs."""
    if product.batch or product.narrow or any([isinstance(source, Counter) for source in product.inputs.values()]):
        return False
    width = _width(product)
    return 1 < product.m <= MOST_ROWS and product.n % width == 0 and product.n > width and product.k >= width


def _factor_key(step: Step, product: Product) -> tuple[Value, Hashable]:
    """Return what equal right factors have in common: their array, and how they lie in it."""
    return step.memory[product.b.operand], (_start(step, product), product.b.strides, product.k, product.n)


def _start(step: Step, product: Product) -> int:
    return product.b.offset + (step.offsets[product.b.operand] if step.offsets else 0)


def _packing_step(step: Step) -> Step:
    """Return the step that packs the right factor of a product."""
    product: Product = step.kernel
    width, base = _width(product), step.memory[product.b.operand]
    down, across = product.b.strides
    out = Value((product.n // width, product.k, width), product.dtype)
    load = Access(0, 0, (width * across, down, across))
    store = Store(_panels(product)._replace(operand=1), input_scalar("x0", product.dtype))
    memory = Operand(product.dtype), Operand(product.dtype)
    nest = Nest("packed", out.shape, (Phase((), {"x0": load}, (store,)),), memory, "outer")
    return Step(finished(nest), (base, out), frozenset([base]), (out,), offsets=(_start(step, product), 0))


def _panels(product: Product) -> Access:
    width = _width(product)
    return Access(product.b.operand, 0, (product.k * width, width, 1))


def _divided(product: Product) -> Product:
    """Return a product as a batch of products, one for each panel of its right factor, which is packed.

    The factor takes the place of the one that it is packed from, or the place after all others if that is needed.
    """
    width, place = _width(product), product.b.operand

    def divided(access: Access) -> Access:
        row, column = access.strides
        return access._replace(strides=(column * width, row, column))

    inputs: dict[str, Access | Counter] = {}
    for name, access in product.inputs.items():
        assert isinstance(access, Access)
        inputs[name] = divided(access)
    stores = tuple([store._replace(target=divided(store.target)) for store in product.stores])
    left = product.a._replace(strides=(0, *product.a.strides))
    operands, right = product.operands, _panels(product)
    loaded = [product.a, *[access for access in inputs.values() if isinstance(access, Access)]]
    if any([access.operand == place for access in (*loaded, *[store.target for store in stores])]):
        right = right._replace(operand=len(operands))
        operands = (*operands, product.dtype)
    batch = (product.n // width,)
    return product._replace(batch=batch, n=width, a=left, b=right, operands=operands, inputs=inputs, stores=stores)


def _reading_panels(step: Step, kernel: Product, packed: Value) -> Step:
    """Return the step of a product that reads its right factor packed."""
    memory, offsets = list(step.memory), list(step.offsets or (0,) * len(step.memory))
    place = kernel.b.operand
    memory[place : place + 1], offsets[place : place + 1] = [packed], [0]
    reads = frozenset(memory) - frozenset(step.writes)
    return step._replace(kernel=kernel, memory=tuple(memory), reads=reads, offsets=tuple(offsets))
