"""What the kinds beyond elementwise share: rule collection, pulls from rules, and the refusal of half a declaration."""

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend
from ..core import boxing, capturing
from ..core.forward import Dual
from ..core.primitive import REGISTRY, Primitive
from ..core.tracing import plain_parts
from ..core.vspace import OutputBars, all_finite, settle
from ..core.zeros import ZERO
from ..errors import DeclarationError
from ..typing import Rule
from .batching import from_batched
from .fastpath import general, publish
from .residuals import Plan, boxed_residuals, read_impl, residual_names, rule_caller

raw = backend.numpy


class Declaration:
    """Collects the rules of one operation; `complete` derives the rest or says what is missing."""

    required: tuple[str, ...] = ()

    def __init__(self, kind: str, impl: Rule, options: dict[str, Any]) -> None:
        primitive = self.primitive = Primitive(impl.__name__, kind, impl)
        read_impl(primitive, impl)
        primitive.fixed = frozenset(options.pop("fixed", ()))
        for name, value in options.items():
            setattr(primitive, name, value)
        self.function = publish(self.build(), primitive, impl)
        self.function.batched = self.batched
        self.function.batch = self.batch
        self.function.raw_pull = self.raw_pull
        self.function.pull_in_place = self.pull_in_place
        self.function.raw_pull_masked = self.raw_pull_masked
        REGISTRY.add(primitive, self.complete)

    def build(self) -> Callable[..., Any]:
        """Return the public function, before it is named."""
        return general(self.primitive)

    def batched(self, rule: Rule) -> Rule:
        """Declare batching for arguments that all carry the mapped axis in front."""
        self.primitive.rules["batch"] = rule
        self.primitive.batch = from_batched(self.primitive, rule)
        return rule

    def batch(self, rule: Rule) -> Rule:
        """Declare batching in full: `rule(xp, args, axes, **params) -> (out, out_axis)`."""
        self.primitive.rules["batch"] = rule

        def batch(xp: Any, args: tuple[Any, ...], axes: tuple[Any, ...], params: dict[str, Any]) -> tuple[Any, Any]:
            return rule(xp, args, axes, **params)

        self.primitive.batch = batch
        return rule

    def raw_pull(self, rule: Rule) -> Rule:
        """Declare how the raw sweep pulls back, `rule(node, out_bar) -> bars`, where it can be cheaper than the rule.

        The suite checks it against the rule itself, which still serves every differentiable sweep.
        """
        self.primitive.rules["raw_pull"] = rule
        return rule

    def raw_pull_masked(self, rule: Rule) -> Rule:
        """Declare the same for a sweep whose cotangents hold zeros that must win over infinite residuals."""
        self.primitive.rules["raw_pull_masked"] = rule
        return rule

    def pull_in_place(self, rule: Rule) -> Rule:
        """Declare how a differentiable sweep pulls back, `rule(node, out_bar) -> bars`, by writing into cotangents.

        It is called for exact Tensors (or an Accumulator of one) alone; what it writes is recorded.
        """
        self.primitive.pull_in_place = rule
        return rule

    def complete(self) -> None:
        """Derive the rest, or say what is missing."""
        primitive = self.primitive
        missing = [name for name in self.required if name not in primitive.rules]
        if missing:
            raise DeclarationError(
                f"{primitive.kind} operation {primitive.name!r} lacks {' and '.join(missing)}; add "
                + ", ".join(f"@{primitive.name}.{name}" for name in missing)
            )
        if not primitive.samples:
            raise DeclarationError(
                f"operation {primitive.name!r} has no samples, so nothing would check it; add samples=[Sample(...)]"
            )
        self.derive()
        if "raw_pull" in primitive.rules:
            primitive.pull = primitive.pull_masked = primitive.rules["raw_pull"]
        if "raw_pull_masked" in primitive.rules:
            primitive.pull_masked = primitive.rules["raw_pull_masked"]

    def derive(self) -> None:
        """Derive everything else from the declared rules."""
        raise NotImplementedError


def needs_of(primitive: Primitive, rule: Rule) -> tuple[str, ...]:
    """Return what a reverse rule needs kept."""
    return residual_names(primitive, rule, extra=("out_bar",))


def plan_for(primitive: Primitive, needs: list[tuple[str, ...]]) -> None:
    """Install the plan that gathers residuals when the operation is recorded."""
    primitive.rules["plan"] = Plan(primitive, needs)


def dense_outputs(xp: Any, node: Any, out_bar: Any) -> Any:
    """Turn gathered cotangents of several outputs into a tuple; outputs that nobody used contribute zeros."""
    if type(out_bar) is not OutputBars:
        return out_bar
    return tuple(
        [
            out_bar.bars[i] if i in out_bar.bars else xp.zeros(shape, dtype=dtype)
            for i, (shape, dtype) in enumerate(zip(node.shape, node.dtype))
        ]
    )


def install_joint_pull(primitive: Primitive, rule: Rule) -> None:
    """Derive the pulls of a rule that returns the cotangents of all arguments at once."""
    single = len(primitive.arguments) == 1 and not primitive.variadic
    call = rule_caller(primitive, rule)

    def pull_in(xp: Any, node: Any, out_bar: Any, saved: Any) -> tuple[Any, ...]:
        bars: Any = call(xp, dense_outputs(xp, node, out_bar), saved, node.params)
        if single and type(bars) is not tuple:
            bars = (bars,)
        return tuple(
            [
                None if parent is None or bar is None else settle(xp, bar, parent)
                for parent, bar in zip(node.inputs, bars, strict=True)
            ]
        )

    install_pulls(primitive, pull_in)


def install_split_pull(primitive: Primitive, rules: dict[str, Rule]) -> None:
    """Derive the pulls of one rule for each argument; rules of untracked arguments are not run."""
    calls = [rule_caller(primitive, rules[name]) if name in rules else None for name in primitive.arguments]

    def pull_in(xp: Any, node: Any, out_bar: Any, saved: Any) -> tuple[Any, ...]:
        bars: list[Any] = []
        for parent, call in zip(node.inputs, calls):
            if parent is None or call is None:
                bars.append(None)
            else:
                bars.append(settle(xp, call(xp, out_bar, saved, node.params), parent))
        return tuple(bars)

    install_pulls(primitive, pull_in)


def install_pulls(primitive: Primitive, pull_in: Callable[[Any, Any, Any, Any], tuple[Any, ...]]) -> None:
    """Make the raw and the tracked pull of one function of the namespace, the Node, the cotangent and the residuals."""

    def pull(node: Any, out_bar: Any) -> tuple[Any, ...]:
        return pull_in(raw, node, out_bar, node.saved)

    def pull_tracked(node: Any, out_bar: Any, masked: bool) -> tuple[Any, ...]:
        return pull_in(boxing.operations, node, out_bar, boxed_residuals(node))

    primitive.pull = primitive.pull_masked = pull
    primitive.pull_tracked = pull_tracked


def guard_bilinear(result: Any, factor: Any, out_bar: Any, contract: Callable[[Any, Any], Any]) -> Any:
    """Repair 0 * inf in a contraction of a cotangent with a residual that is not finite.

    Terms with an exactly zero cotangent contribute nothing; entries that a non-zero cotangent reaches stay as they are.
    """
    if not hasattr(factor, "dtype") or factor.dtype.kind not in "fc" or all_finite(factor):
        return result
    bad: Any = ~np.isfinite(factor)
    finite: Any = np.where(bad, factor.dtype.type(0), factor)
    reached = contract(bad.astype(factor.dtype), (out_bar != 0).astype(out_bar.dtype)) != 0
    repaired: Any = np.where(reached, result, contract(finite, out_bar))
    return repaired


def guard_tracked(xp: Any, result: Any, factor: Any, out_bar: Any, contract: Callable[[Any, Any], Any]) -> Any:
    """Do the same on Tensors of any level: in a differentiable sweep, or where a transform is at work."""
    if capturing.engaged and (capture := capturing.current()) is not None:
        capture.guard_was_left_out(factor)
        return result
    if type(factor) is boxing.Tensor and type(out_bar) is boxing.Tensor:
        data = boxing.data_of(factor)
        if data.dtype.kind not in "fc" or all_finite(data):
            return result
    elif all([all_finite(part) for part in plain_parts(result)]):
        return result  # zero times infinity would have left a NaN
    finite = xp.isfinite(factor)
    bad = xp.astype(xp.logical_not(finite), factor.dtype)
    reached = xp.not_equal(contract(bad, xp.astype(_is_nonzero(xp, out_bar), out_bar.dtype)), 0)
    return xp.where(reached, result, contract(xp.where(finite, factor, 0), out_bar))


def _is_nonzero(xp: Any, value: Any) -> Any:
    """Return where a value, or its tangent, is other than zero."""
    if type(value) is boxing.Tracer and isinstance(value._state, Dual):
        state = value._state
        nonzero = _is_nonzero(xp, state.primal)
        return nonzero if state.tangent is ZERO else xp.logical_or(nonzero, _is_nonzero(xp, state.tangent))
    return xp.not_equal(value, 0)


def guard_forward(xp: Any, result: Any, factor: Any, x_dot: Any, contract: Callable[[Any, Any], Any]) -> Any:
    """Repair 0 * inf in a contraction of a tangent with a value that is not finite, in either namespace."""
    if xp is raw:
        return result if all_finite(result) else guard_bilinear(result, factor, x_dot, contract)
    if capturing.engaged and (capture := capturing.current()) is not None:
        capture.expect_finite(capturing.parts_followed(result))
        return result
    return guard_tracked(xp, result, factor, x_dot, contract)
