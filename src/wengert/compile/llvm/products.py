"""Matrix products with fused epilogues, as kernels for given shapes and strides.

The result is cut into tiles that stay in registers while k runs (`products_tiles`), and into panels: columns of tiles,
for which the right factor is packed (`products_packing`). A unit of work is a row of tiles within a group of panels;
consecutive units share what is packed. Each element is summed by one tile, in the order of k, so that any division of
units among threads gives the same bits. Tiles are stored where they belong, or pass through the epilogue
(`products_epilogue`).
"""

from __future__ import annotations

from ..kernels import Kernel
from ..nests import Access, Counter, Store
from ..scalar_ir import FLOAT32, DType, KernelError, input_scalar
from .machine import Machine
from .products_layout import Product, normalised
from .products_units import Generator


def product_kernel(product: Product, machine: Machine) -> Kernel:
    """Return the kernel of a matrix product.

    Raises:
        KernelError: factors other than of float32 are to be rounded to bfloat16.
    """
    if product.narrow and product.dtype != FLOAT32:
        raise KernelError(f"{product.name}: only float32 factors are rounded to bfloat16, not {product.dtype}")
    product, plan = normalised(product, machine)
    return Generator(product, plan, machine).kernel()


def plain_product(
    name: str, batch: tuple[int, ...], m: int, n: int, k: int, dtype: DType, a: Access, b: Access, out: Access
) -> Product:
    """Return a product that is only stored."""
    count = 1 + max(a.operand, b.operand, out.operand)
    inputs: dict[str, Access | Counter] = {}
    return Product(name, batch, m, n, k, a, b, (dtype,) * count, inputs, (Store(out, input_scalar("product", dtype)),))
