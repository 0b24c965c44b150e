"""Linear and bilinear operations: `impl` and transposes are written; VJP and JVP follow.

A linear operation is linear in all its array arguments together (a sum, a concatenation, a write of a value into an
array). A bilinear one is linear in each of its two arguments.
"""

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core import boxing
from ..core.primitive import BILINEAR, LINEAR
from ..core.vspace import all_finite, settle
from ..core.zeros import ZERO, is_zero
from ..errors import DeclarationError
from ..typing import Rule
from .elementwise import evaluate
from .residuals import boxed_residuals, rule_caller
from .structured import (
    Declaration,
    guard_bilinear,
    guard_forward,
    guard_tracked,
    install_joint_pull,
    install_split_pull,
    needs_of,
    plan_for,
    raw,
)


class linear:
    """Declare a linear operation; decorates `impl(xp, x, ..., *, params)` and returns the public function.

    Then `@op.transpose` declares one rule for all arguments, or `@op.transpose_of("x")` one for each; and
    `@op.batched` or `@op.batch` the batching.

    Args:
        samples: calls to check the operation on.
        reference: dotted name of an independent implementation, or a callable, if there is one.
        view: the result is a view of the argument, as in NumPy.
        masks: the transpose puts zeros where the operation left elements out.
        multiple: the result is a tuple.
        fixed: names of arguments that never carry a tangent (indices).
    """

    def __init__(
        self,
        *,
        samples: Any,
        reference: Any = None,
        view: bool = False,
        masks: bool = False,
        multiple: bool = False,
        fixed: tuple[str, ...] = (),
    ) -> None:
        self.options = dict(
            samples=samples, reference=reference, view=view, masks=masks, multiple=multiple, fixed=fixed
        )

    def __call__(self, impl: Rule) -> Any:
        """Declare the operation that `impl` computes."""
        declaration = _Linear(LINEAR, impl, self.options)
        declaration.function.transpose = declaration.transpose
        declaration.function.transpose_of = declaration.transpose_of
        return declaration.function


class _Linear(Declaration):
    required = ("transpose", "batch")

    def transpose(self, rule: Rule) -> Rule:
        """Declare the transpose: the cotangents of all arguments (of the one argument, not in a tuple)."""
        self.primitive.rules["transpose"] = rule
        return rule

    def transpose_of(self, argument: str) -> Callable[[Rule], Rule]:
        """Declare the transpose with respect to one argument."""
        if argument not in self.primitive.arguments:
            raise DeclarationError(f"{self.primitive.name} has no argument {argument!r} to declare a transpose for")

        def declare(rule: Rule) -> Rule:
            self.primitive.rules.setdefault("transpose", {})[argument] = rule
            return rule

        return declare

    def derive(self) -> None:
        primitive = self.primitive
        rule: Any = primitive.rules["transpose"]
        if isinstance(rule, dict):
            wanted = [name for name in primitive.arguments if name not in primitive.fixed]
            if missing := [name for name in wanted if name not in rule]:
                raise DeclarationError(
                    f"{primitive.kind} operation {primitive.name!r} has no transpose with respect to "
                    f"{', '.join(missing)}; add @{primitive.name}.transpose_of({missing[0]!r})"
                )
            plan_for(primitive, [needs_of(primitive, rule[n]) if n in rule else () for n in primitive.arguments])
            install_split_pull(primitive, rule)
        else:
            plan_for(primitive, [needs_of(primitive, rule)] * max(1, len(primitive.arguments)))
            install_joint_pull(primitive, rule)
        primitive.jvp = self._jvp

    def _jvp(self, xp: Any, primals: tuple[Any, ...], tangents: tuple[Any, ...], params: dict[str, Any]) -> Any:
        primitive = self.primitive
        out = evaluate(xp, primitive, primals, params)
        if len(tangents) == 1 and tangents[0] is not ZERO and not primitive.multiple and out.dtype.kind in "fc":
            return out, evaluate(xp, primitive, tangents, params)
        if all([is_zero(t) for t in tangents]):
            return out, (ZERO,) * len(out) if primitive.multiple else ZERO
        names = primitive.arguments * len(primals) if primitive.variadic else primitive.arguments
        filled = [
            x if name in primitive.fixed else xp.zeros_like(x) if is_zero(t) else t
            for name, x, t in zip(names, primals, tangents)
        ]
        out_dot = evaluate(xp, primitive, tuple(filled), params)
        return out, out_dot if primitive.multiple else settle(xp, out_dot, out)


class bilinear:
    """Declare an operation that is linear in each of two arguments; decorates `impl(xp, x, y, *, params)`.

    Then `@op.transpose_of("x")` (which needs y) and `@op.transpose_of("y")` (which needs x), and the batching.
    """

    def __init__(self, *, samples: Any, reference: Any = None) -> None:
        self.options = dict(samples=samples, reference=reference)

    def __call__(self, impl: Rule) -> Any:
        """Declare the operation that `impl` computes."""
        declaration = _Bilinear(BILINEAR, impl, self.options)
        declaration.function.transpose_of = declaration.transpose_of
        return declaration.function


class _Bilinear(_Linear):
    def derive(self) -> None:
        super().derive()
        primitive = self.primitive
        if len(primitive.arguments) != 2:
            raise DeclarationError(f"bilinear operation {primitive.name!r} must take two arrays")
        rules = primitive.rules["transpose"]
        calls = [rule_caller(primitive, rules[name]) for name in primitive.arguments]
        others = [primitive.residuals.index(name) for name in reversed(primitive.arguments)]
        primitive.jvp = self._jvp

        def pull_masked(node: Any, out_bar: Any) -> tuple[Any, ...]:
            bars: list[Any] = []
            for parent, call, other in zip(node.inputs, calls, others):
                if parent is None:
                    bars.append(None)
                    continue
                saved = node.saved
                bar = call(raw, out_bar, saved, node.params)
                if bar.size < saved[other].size and all_finite(bar):
                    bars.append(settle(raw, bar, parent))
                    continue

                def contract(factor: Any, cotangent: Any) -> Any:
                    replaced = (*saved[:other], factor, *saved[other + 1 :])  # noqa: B023
                    return call(raw, cotangent, replaced, node.params)  # noqa: B023

                bars.append(settle(raw, guard_bilinear(bar, saved[other], out_bar, contract), parent))
            return tuple(bars)

        def pull_tracked(node: Any, out_bar: Any, masked: bool) -> tuple[Any, ...]:
            xp, saved = boxing.operations, boxed_residuals(node)
            bars: list[Any] = []
            for parent, call, other in zip(node.inputs, calls, others):
                if parent is None:
                    bars.append(None)
                    continue

                def contract(factor: Any, cotangent: Any) -> Any:
                    replaced = (*saved[:other], factor, *saved[other + 1 :])  # noqa: B023
                    return call(xp, cotangent, replaced, node.params)  # noqa: B023

                bar = contract(saved[other], out_bar)
                if masked:
                    bar = guard_tracked(xp, bar, saved[other], out_bar, contract)
                bars.append(settle(xp, bar, parent))
            return tuple(bars)

        primitive.pull_masked = pull_masked
        primitive.pull_tracked = pull_tracked

    def _jvp(self, xp: Any, primals: tuple[Any, ...], tangents: tuple[Any, ...], params: dict[str, Any]) -> Any:
        (x, y), (x_dot, y_dot) = primals, tangents

        def of_x(factor: Any, tangent: Any) -> Any:
            return evaluate(xp, self.primitive, (tangent, factor), params)

        def of_y(factor: Any, tangent: Any) -> Any:
            return evaluate(xp, self.primitive, (factor, tangent), params)

        out = evaluate(xp, self.primitive, primals, params)
        terms: list[Any] = []
        if not is_zero(x_dot):
            terms.append(guard_forward(xp, of_x(y, x_dot), y, x_dot, of_x))
        if not is_zero(y_dot):
            terms.append(guard_forward(xp, of_y(x, y_dot), x, y_dot, of_y))
        if not terms:
            return out, ZERO
        return out, settle(xp, terms[0] if len(terms) == 1 else terms[0] + terms[1], out)
