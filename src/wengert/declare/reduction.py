"""Reductions: `impl` and the partial with respect to each element are written; VJP, JVP and batching follow.

`impl(xp, x, *, axis, keepdims)` gets `axis` as a sorted tuple of non-negative integers. The rule
`partials(xp, x, out, ...)` sees `out` with the reduced axes kept, and returns d out / d x for each element of x.
"""

from __future__ import annotations

from typing import Any

from ..core.primitive import REDUCTION
from ..core.vspace import guarded_product, settle
from ..core.zeros import ZERO, is_zero
from ..errors import DeclarationError
from ..typing import Rule, Shape
from .elementwise import evaluate, product_in
from .residuals import rule_caller
from .structured import Declaration, install_pulls, needs_of, plan_for, raw


class reduction:
    """Declare a reduction; decorates `impl(xp, x, *, axis, keepdims, ...)` and returns the public function.

    Args:
        samples: calls to check the operation on.
        reference: dotted name of an independent implementation.
        masks: the partials select elements (max, min).
    """

    def __init__(self, *, samples: Any, reference: Any = None, masks: bool = False, special: Any = ()) -> None:
        self.options = dict(samples=samples, reference=reference, masks=masks, special=special)

    def __call__(self, impl: Rule) -> Any:
        """Declare the operation that `impl` computes."""
        declaration = _Reduction(REDUCTION, impl, self.options)
        if declaration.primitive.parameters[:2] != ("axis", "keepdims"):
            raise DeclarationError(f"{impl.__name__}: a reduction's impl takes (xp, x, *, axis, keepdims, ...)")
        declaration.function.partials = declaration.partials
        return declaration.function


def kept_shape(shape: Shape, axis: tuple[int, ...]) -> Shape:
    """Return `shape` with the reduced axes kept as ones."""
    return tuple([1 if i in axis else n for i, n in enumerate(shape)])


class _Reduction(Declaration):
    required = ("partials",)

    def partials(self, rule: Rule) -> Rule:
        """Declare the derivative of the result with respect to each element."""
        self.primitive.rules["partials"] = rule
        return rule

    def derive(self) -> None:
        primitive = self.primitive
        rule = primitive.rules["partials"]
        needs = (*needs_of(primitive, rule), "x_shape")
        if primitive.arguments != ("x",):
            raise DeclarationError(f"reduction {primitive.name!r} must take one array, named x")
        plan_for(primitive, [needs])
        call = rule_caller(primitive, rule)
        out_place = primitive.residuals.index("out") if "out" in primitive.residuals else None
        shape_place = primitive.residuals.index("x_shape")

        def local_partial(xp: Any, saved: Any, params: dict[str, Any], shape: Shape) -> Any:
            if out_place is not None:
                out = xp.reshape(saved[out_place], kept_shape(shape, params["axis"]))
                saved = (*saved[:out_place], out, *saved[out_place + 1 :])
            return call(xp, None, saved, params)

        def pull_in(xp: Any, node: Any, out_bar: Any, saved: Any) -> tuple[Any, ...]:
            shape = saved[shape_place]
            partial = local_partial(xp, saved, node.params, shape)
            out_bar = xp.reshape(out_bar, kept_shape(shape, node.params["axis"]))
            x_bar = guarded_product(partial, out_bar) if xp is raw else product_in(xp, partial, out_bar, True)
            return (settle(xp, x_bar, node.inputs[0]),)

        install_pulls(primitive, pull_in)

        def jvp(xp: Any, primals: tuple[Any, ...], tangents: tuple[Any, ...], params: dict[str, Any]) -> Any:
            (x,), (x_dot,) = primals, tangents
            out = evaluate(xp, primitive, primals, params)
            if is_zero(x_dot):
                return out, ZERO
            values = {"x": x, "out": out, "x_shape": x.shape, "x_dtype": x.dtype}
            partial = local_partial(xp, tuple([values[n] for n in primitive.residuals]), params, x.shape)
            product = product_in(xp, partial, x_dot, True)
            out_dot = xp.sum(product, axis=params["axis"], keepdims=params["keepdims"])
            return out, settle(xp, out_dot, out)

        primitive.jvp = jvp
        if "batch" not in primitive.rules:
            self.batched(_shifted(primitive))


def _shifted(primitive: Any) -> Rule:
    def batched(xp: Any, x: Any, *, axis: tuple[int, ...], **params: Any) -> Any:
        return primitive.call(x, axis=tuple([a + 1 for a in axis]), **params)

    return batched
