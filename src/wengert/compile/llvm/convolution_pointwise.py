"""Convolutions with windows of one element are matrix products: of the weights and of an image's channels."""

from __future__ import annotations

from ..nests import Access, Counter
from .convolution_geometry import Convolution
from .convolution_product import After
from .products import Product
from .products_layout import gains_by_rounding


def is_pointwise(shape: Convolution) -> bool:
    """Return whether every element of the output is made of the elements of the input in the same place."""
    return shape.window == shape.stride == (1, 1) and not any([width for pair in shape.padding for width in pair])


def pointwise_product(name: str, shape: Convolution, after: After, *, transpose: bool) -> Product | None:
    """Return a convolution as a product, or None if what comes after it tells apart rows from columns.

    Args:
        name: of the kernel.
        shape: a pointwise convolution.
        after: what is done with the sums; as for a Correlation.
        transpose: whether it is the gradient by the input, a product with the weights transposed.
    """
    columns = shape.image[1]
    inputs = {key: _joined(source, shape, columns, transpose=transpose) for key, source in after.inputs.items()}
    targets = [_joined(store.target, shape, columns, transpose=transpose) for store in after.stores]
    if None in [*inputs.values(), *targets]:
        return None
    size = shape.image[0] * columns
    made, summed = (shape.depth, shape.breadth) if transpose else (shape.breadth, shape.depth)
    step = (1, shape.depth) if transpose else (shape.depth, 1)
    product = Product(
        name,
        (shape.batch, shape.groups),
        made,
        size,
        summed,
        Access(1, 0, (0, shape.breadth * shape.depth, *step)),
        Access(0, 0, (shape.groups * summed * size, summed * size, size, 1)),
        after.operands,
        {key: source for key, source in inputs.items() if source is not None},
        tuple([s._replace(target=t) for s, t in zip(after.stores, targets) if isinstance(t, Access)]),
    )
    narrow = shape.narrow and gains_by_rounding(product)
    return product._replace(name=f"{name}_bfloat16", narrow=True) if narrow else product


def _joined(source: Access | Counter, shape: Convolution, columns: int, *, transpose: bool) -> Access | Counter | None:
    """Return the same along images, groups, filters of a group, and rows and columns as one axis; None if it isn't."""
    if isinstance(source, Counter):
        if source.axis == 0:
            return source
        return Counter(2) if source.axis == 1 and shape.groups == 1 else None
    image, channel, row, column = source.strides
    if row != columns * column and shape.image[0] > 1:
        return None
    made = shape.depth if transpose else shape.breadth
    return source._replace(strides=(image, made * channel, channel, column))
