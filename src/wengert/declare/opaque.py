"""Opaque operations (every rule is written), nondifferentiable ones (none is), and composites (none is needed)."""

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import boxing
from ..core.dispatch import bind
from ..core.primitive import NONDIFFERENTIABLE, OPAQUE, REGISTRY, Primitive
from ..core.vspace import settle
from ..core.zeros import NO_TANGENT, ZERO, is_zero
from ..errors import DeclarationError
from ..typing import Params, Rule
from .batching import batch_elementwise
from .elementwise import evaluate
from .fastpath import general, untracked
from .probing import direct_kernel
from .residuals import signature
from .structured import Declaration, install_joint_pull, install_split_pull, needs_of, plan_for, raw


class opaque:
    """Declare an operation from which nothing can be derived; decorates `impl(xp, x, ..., *, params)`.

    All of `@op.vjp` (returns the cotangents of all arguments), `@op.jvp` (names `<argument>_dot` for tangents, returns
    `out_dot`) and `@op.batched` or `@op.batch` are demanded when the module is imported. `@op.vjp_of("x")` and
    `@op.jvp_of("x")` declare the part of one argument, so that others cost nothing. Where it can, a `vjp` uses
    `xp.guarded_product` for products with a cotangent, so that masked elements stay exactly zero.
    """

    def __init__(
        self,
        *,
        samples: Any,
        reference: Any = None,
        multiple: bool = False,
        fixed: tuple[str, ...] = (),
        masks: bool = False,
    ) -> None:
        self.options = dict(samples=samples, reference=reference, multiple=multiple, fixed=fixed, masks=masks)

    def __call__(self, impl: Rule) -> Any:
        """Declare the operation that `impl` computes."""
        declaration = _Opaque(OPAQUE, impl, self.options)
        declaration.function.vjp = declaration.vjp
        declaration.function.vjp_of = declaration.vjp_of
        declaration.function.jvp = declaration.jvp
        declaration.function.jvp_of = declaration.jvp_of
        return declaration.function


class _Opaque(Declaration):
    required = ("vjp", "jvp", "batch")

    def vjp(self, rule: Rule) -> Rule:
        """Declare the cotangents of all arguments, given `out_bar`."""
        self.primitive.rules["vjp"] = rule
        return rule

    def vjp_of(self, argument: str) -> Callable[[Rule], Rule]:
        """Declare the cotangent of one argument, given `out_bar`; it is not run where that argument is untracked."""
        if argument not in self.primitive.arguments:
            raise DeclarationError(f"{self.primitive.name} has no argument {argument!r} to declare a vjp for")

        def declare(rule: Rule) -> Rule:
            self.primitive.rules.setdefault("vjp", {})[argument] = rule  # type: ignore[union-attr]
            return rule

        return declare

    def jvp(self, rule: Rule) -> Rule:
        """Declare the tangent of the result, given `<argument>_dot` of the arguments."""
        self.primitive.rules["jvp"] = rule
        return rule

    def jvp_of(self, argument: str) -> Callable[[Rule], Rule]:
        """Declare what one argument contributes to the tangent of the result; it is run only if that moves."""
        if argument not in self.primitive.arguments:
            raise DeclarationError(f"{self.primitive.name} has no argument {argument!r} to declare a jvp for")

        def declare(rule: Rule) -> Rule:
            self.primitive.rules.setdefault("jvp", {})[argument] = rule  # type: ignore[union-attr]
            return rule

        return declare

    def derive(self) -> None:
        primitive = self.primitive
        rule: Any = primitive.rules["vjp"]
        if isinstance(rule, dict):
            self._demand_all(rule, "vjp")
            plan_for(primitive, [needs_of(primitive, rule[n]) if n in rule else () for n in primitive.arguments])
            install_split_pull(primitive, rule)
        else:
            plan_for(primitive, [needs_of(primitive, rule)] * len(primitive.arguments))
            install_joint_pull(primitive, rule)
        jvp_rule: Any = primitive.rules["jvp"]
        if isinstance(jvp_rule, dict):
            self._demand_all(jvp_rule, "jvp")
            primitive.jvp = _split_jvp(primitive, {name: _caller(primitive, r) for name, r in jvp_rule.items()})
        else:
            primitive.jvp = _joint_jvp(primitive, _caller(primitive, jvp_rule))

    def _demand_all(self, rules: dict[str, Rule], mode: str) -> None:
        primitive = self.primitive
        wanted = [name for name in primitive.arguments if name not in primitive.fixed]
        if missing := [name for name in wanted if name not in rules]:
            raise DeclarationError(
                f"opaque operation {primitive.name!r} has no {mode} with respect to {', '.join(missing)}; add "
                f"@{primitive.name}.{mode}_of({missing[0]!r})"
            )


def _caller(primitive: Primitive, rule: Rule) -> Callable[[dict[str, Any]], Any]:
    """Return a function that calls a jvp rule with what its parameters name."""
    positional, keywords, _ = signature(rule)
    known = {"xp", "out", *primitive.arguments, *primitive.parameters, *[f"{a}_dot" for a in primitive.arguments]}
    if unknown := [name for name in positional + keywords if name not in known]:
        raise DeclarationError(f"{rule.__name__}: {primitive.name} has no {', '.join(unknown)}")

    def call(values: dict[str, Any]) -> Any:
        return rule(*[values[n] for n in positional], **{n: values[n] for n in keywords})

    return call


def _named_values(primitive: Primitive, xp: Any, out: Any, primals: tuple[Any, ...], params: Params) -> dict[str, Any]:
    return {"xp": xp, "out": out, **params, **dict(zip(primitive.arguments, primals))}


def _joint_jvp(primitive: Primitive, call: Callable[[dict[str, Any]], Any]) -> Callable[..., tuple[Any, Any]]:
    def jvp(xp: Any, primals: tuple[Any, ...], tangents: tuple[Any, ...], params: Params) -> tuple[Any, Any]:
        out = evaluate(xp, primitive, primals, params)
        if all([is_zero(t) for t in tangents]):
            return out, (ZERO,) * len(out) if primitive.multiple else ZERO
        values = _named_values(primitive, xp, out, primals, params)
        for name, x, x_dot in zip(primitive.arguments, primals, tangents):
            values[f"{name}_dot"] = xp.zeros_like(x) if is_zero(x_dot) else x_dot
        out_dot = call(values)
        return out, out_dot if primitive.multiple else settle(xp, out_dot, out)

    return jvp


def _split_jvp(
    primitive: Primitive, calls: dict[str, Callable[[dict[str, Any]], Any]]
) -> Callable[..., tuple[Any, Any]]:
    def jvp(xp: Any, primals: tuple[Any, ...], tangents: tuple[Any, ...], params: Params) -> tuple[Any, Any]:
        out = evaluate(xp, primitive, primals, params)
        values = _named_values(primitive, xp, out, primals, params)
        out_dot: Any = ZERO
        for name, x_dot in zip(primitive.arguments, tangents):
            if not is_zero(x_dot) and name in calls:
                values[f"{name}_dot"] = x_dot
                term = calls[name](values)
                out_dot = term if out_dot is ZERO else out_dot + term
        return out, out_dot if out_dot is ZERO else settle(xp, out_dot, out)

    return jvp


class nondifferentiable:
    """Declare an operation without derivative: its result carries no tangent in any mode, and is never recorded.

    Without a declared batching rule, an operation without static parameters is batched element by element, and one
    with a parameter `axis` (a non-negative integer, or a tuple of them) along shifted axes.
    """

    def __init__(self, *, samples: Any = None, domain: Any = None, reference: Any = None, view: bool = False) -> None:
        if samples is None and domain is not None:
            samples = "domain"
        self.options = dict(samples=samples, domain=domain, reference=reference, view=view)

    def __call__(self, impl: Rule) -> Any:
        """Declare the operation that `impl` computes."""
        return _Nondifferentiable(NONDIFFERENTIABLE, impl, self.options).function


class _Nondifferentiable(Declaration):
    def build(self) -> Callable[..., Any]:
        """Give comparisons and predicates a fast path: what is one ufunc of NumPy's needs no dispatcher."""
        primitive = self.primitive
        kernel = None if primitive.parameters else direct_kernel(primitive.impl, primitive.arguments)
        return untracked(primitive, kernel) if isinstance(kernel, np.ufunc) else general(primitive)

    def derive(self) -> None:
        primitive = self.primitive

        def jvp(xp: Any, primals: tuple[Any, ...], tangents: tuple[Any, ...], params: dict[str, Any]) -> Any:
            return evaluate(xp, primitive, primals, params), NO_TANGENT

        primitive.jvp = jvp
        if "batch" in primitive.rules:
            return
        if not primitive.parameters:
            primitive.batch = self._batch_elementwise
        elif "axis" in primitive.parameters:
            self.batched(self._batched_along_shifted_axes)
        else:
            raise DeclarationError(f"nondifferentiable operation {primitive.name!r} needs @{primitive.name}.batched")

    def _batch_elementwise(self, xp: Any, args: Any, axes: Any, params: Any) -> Any:
        return bind(self.primitive, batch_elementwise(xp, args, axes), params), 0

    def _batched_along_shifted_axes(self, xp: Any, *arrays: Any, axis: Any, **params: Any) -> Any:
        shifted = axis + 1 if isinstance(axis, int) else tuple([a + 1 for a in axis])
        return self.primitive.call(*arrays, axis=shifted, **params)


class Composite:
    """The record of a composite: the plain function, and where it is checked."""

    __slots__ = ("domain", "function", "name", "reference", "samples", "special")

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.function = function
        self.name = function.__name__
        self.samples = options["samples"]
        self.domain = options["domain"]
        self.reference = options["reference"]
        self.special = options["special"]


def composite(*, samples: Any = None, domain: Any = None, reference: Any = None, special: Any = ()) -> Any:
    """Declare a plain function of operations: everything follows from them; the samples say where to check."""
    options = {"samples": samples, "domain": domain, "reference": reference, "special": special}
    if samples is None and domain is None:
        raise DeclarationError("a composite needs samples=[Sample(...)] or a domain, so that it is checked")

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        REGISTRY.add_composite(function.__name__, Composite(function, options))
        return function

    return declare


__all__ = ["Composite", "boxing", "composite", "nondifferentiable", "opaque", "raw"]
