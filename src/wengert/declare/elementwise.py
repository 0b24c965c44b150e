"""Elementwise operations: `impl` and partials are written; VJP, JVP, batching, fast path and kernel follow.

A rule `partials` returns the local derivatives with respect to all array arguments; `partial("x")` declares one of
them alone, so that neither it nor its residuals are computed or kept when x is not tracked. Partials that are plainly
one, minus one, or one of the residuals are recognised when the rule is declared, and cost no call in the sweep.
"""

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import backend
from ..core import boxing
from ..core.dispatch import bind
from ..core.primitive import ELEMENTWISE, REGISTRY, Primitive
from ..core.vspace import all_finite, guarded_product, settle
from ..errors import DeclarationError
from ..typing import Rule
from .batching import batch_elementwise
from .fastpath import BOTH, INPUT, NOTHING, OUTPUT, binary, general, look_at_sizes_later, publish, unary
from .probing import Symbol, direct_kernel, probe
from .pushing import evaluate, forward_rules, product_in
from .residuals import Plan, boxed_residuals, read_impl, residual_names, signature

_raw = backend.numpy


_DERIVED = ("batch", "jvp", "partial_rules", "pull", "pull_masked", "pull_tracked", "push")


class Partial:
    """The local derivative with respect to one argument, in the cheapest form that its rule allows."""

    __slots__ = ("constant", "names", "of", "residual", "single_rule")

    def __init__(self, names: tuple[str, ...], of: Callable[[Any, Any], Any], answer: Any, residuals: Any) -> None:
        self.names = names
        self.of = of
        self.constant = answer if type(answer) in (int, float) else None
        self.residual = residuals.index(answer.name) if isinstance(answer, Symbol) else None
        self.single_rule: Rule | None = None


def _partial_function(rule: Rule, residuals: tuple[str, ...], pick: int | None) -> Callable[[Any, Any], Any]:
    """Adapt a rule to `partial(xp, saved)`."""
    names, _, _ = signature(rule)
    wants_xp = names[:1] == ("xp",)
    places = [residuals.index(name) for name in names if name != "xp"]

    if len(places) == 1 and pick is None:
        place = places[0]
        if wants_xp:

            def of_one_in(xp: Any, saved: Any) -> Any:
                return rule(xp, saved[place])

            return of_one_in

        def of_one(xp: Any, saved: Any) -> Any:
            return rule(saved[place])

        return of_one

    def of_many(xp: Any, saved: Any) -> Any:
        values = [saved[place] for place in places]
        answer = rule(xp, *values) if wants_xp else rule(*values)
        return answer if pick is None else answer[pick]

    return of_many


class elementwise:
    """Declare an elementwise operation; decorates `impl(xp, x, ...)` and returns the public function.

    Args:
        domain: open interval (or one for each argument) that test arguments are drawn from.
        reference: dotted name of an independent implementation, such as `"numpy.tanh"` or `"scipy.special.erf"`.
        special: declared values and partials at kinks, poles and ties (see `at`).
        fixed: names of arguments that never carry a tangent, such as a condition.
        masks: the partials select elements; an exactly zero partial drops even an infinite cotangent.
        samples: explicit samples, where shapes drawn from the domain do not do.
    """

    def __init__(
        self,
        *,
        domain: Any = (-2.0, 2.0),
        reference: str | None = None,
        special: Any = (),
        fixed: tuple[str, ...] = (),
        masks: bool = False,
        singular: bool = False,
        samples: Any = None,
    ) -> None:
        self.options = {"domain": domain, "reference": reference, "special": special, "samples": samples}
        self.fixed = frozenset(fixed)
        self.masks = masks
        self.singular = singular

    def __call__(self, impl: Rule) -> Any:
        """Declare the operation that `impl` computes."""
        primitive = Primitive(impl.__name__, ELEMENTWISE, impl)
        read_impl(primitive, impl)
        if primitive.parameters:
            raise DeclarationError(f"{primitive.name}: an elementwise operation has no static parameters")
        primitive.fixed = self.fixed
        primitive.masks = self.masks
        for name, value in self.options.items():
            setattr(primitive, name, value)
        kernel = direct_kernel(impl, primitive.arguments)
        build = {1: unary, 2: binary}.get(len(primitive.arguments))
        configure: Any = None
        if build is None:
            function: Any = general(primitive)
        else:
            function, configure = build(primitive, kernel)
            look_at_sizes_later(primitive, function)
        publish(function, primitive, impl)
        primitive.singular = self.singular
        declaration = _Declaration(primitive, configure)
        function.partials = declaration.partials
        function.partial = declaration.partial
        function.kernel = primitive.kernel = kernel
        REGISTRY.add(primitive, declaration.complete)
        return function


class _Declaration:
    def __init__(self, primitive: Primitive, configure: Any) -> None:
        self.primitive = primitive
        self.configure = configure
        self.rules: dict[str, tuple[Rule, int | None]] = {}
        self.answers: dict[Rule, Any] = {}

    def partials(self, rule: Rule) -> Rule:
        """Declare the rule that returns all partials as a tuple."""
        single = len(self.primitive.arguments) == 1
        for position, name in enumerate(self.primitive.arguments):
            self.rules[name] = (rule, 0 if single else position)
        return rule

    def partial(self, argument: str) -> Callable[[Rule], Rule]:
        """Declare the partial with respect to one argument."""
        if argument not in self.primitive.arguments:
            raise DeclarationError(f"{self.primitive.name} has no argument {argument!r} to declare a partial for")

        def declare(rule: Rule) -> Rule:
            self.rules[argument] = (rule, None)
            return rule

        return declare

    def complete(self) -> None:
        primitive = self.primitive
        wanted = [name for name in primitive.arguments if name not in primitive.fixed]
        missing = [name for name in wanted if name not in self.rules]
        if missing:
            raise DeclarationError(
                f"elementwise operation {primitive.name!r} has no partial with respect to {', '.join(missing)}; add "
                f"@{primitive.name}.partials, or @{primitive.name}.partial({missing[0]!r})"
            )
        needs = self._needs()
        if len(needs) == 1:
            plan = Plan(primitive, [tuple([n for n in (*primitive.arguments, "out") if n in needs[0]])])
        else:
            plan = _TriplePlan(primitive, needs) if len(needs) == 2 else Plan(primitive, needs)
        primitive.rules["plan"] = plan
        primitive.derive_when_needed(_DERIVED, self.derive)
        if self.configure is not None:
            self.configure(needs if len(needs) == 2 else _unary_mode(primitive.residuals))

    def derive(self) -> None:
        """Derive all rules from the partials."""
        primitive = self.primitive
        primitive.partial_rules = tuple(
            [None if name in primitive.fixed else self._partial(name) for name in primitive.arguments]
        )
        _derive(primitive)

    def _needs(self) -> list[tuple[str, ...]]:
        needs: list[tuple[str, ...]] = []
        for name in self.primitive.arguments:
            if name in self.primitive.fixed:
                needs.append(())
                continue
            rule, pick = self.rules[name]
            names = residual_names(self.primitive, rule)
            answer = self._answer(name)
            if pick is not None and isinstance(answer, Symbol):
                names = (answer.name,)
            elif type(answer) in (int, float):
                names = ()
            needs.append(names)
        return needs

    def _answer(self, name: str) -> Any:
        rule, pick = self.rules[name]
        if rule not in self.answers:
            self.answers[rule] = probe(rule, signature(rule)[0])
        answer = self.answers[rule]
        if pick is not None and isinstance(answer, tuple):
            answer = answer[pick]
        return answer

    def _partial(self, name: str) -> Partial:
        rule, pick = self.rules[name]
        residuals = self.primitive.residuals
        partial = Partial(
            residual_names(self.primitive, rule),
            _partial_function(rule, residuals, pick),
            self._answer(name),
            residuals,
        )
        if pick == 0 and signature(rule)[0] == ("xp", *residuals) and len(residuals) == 1:
            partial.single_rule = rule
        return partial


class _TriplePlan(Plan):
    """Two-argument operations keep (x, y, out) with None for what no tracked input needs, as their fast path does."""

    __slots__ = ()

    def __init__(self, primitive: Primitive, needs: list[tuple[str, ...]]) -> None:
        super().__init__(primitive, needs)
        primitive.residuals = (*primitive.arguments, "out")

    def gather(self, data: tuple[Any, ...], nodes: tuple[Any, ...], out: Any) -> tuple[Any, ...]:
        needed: set[str] = set()
        for node, names in zip(nodes, self.needs):
            if node is not None:
                needed.update(names)
        return tuple([v if n in needed else None for n, v in zip(self.primitive.residuals, (*data, out))])


def _unary_mode(residuals: tuple[str, ...]) -> int:
    if not residuals:
        return NOTHING
    if len(residuals) == 2:
        return BOTH
    return OUTPUT if residuals[0] == "out" else INPUT


def _multiply(partial: Any, out_bar: Any) -> Any:
    return partial * out_bar


def _raw_bar(partial: Partial, product: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return `bar(out_bar, saved)` on raw arrays: the cotangent of one argument before broadcasting is undone."""
    constant, residual, of = partial.constant, partial.residual, partial.of
    if constant == 1:

        def same(out_bar: Any, saved: Any) -> Any:
            return out_bar

        return same
    if constant == -1:

        def opposite(out_bar: Any, saved: Any) -> Any:
            return -out_bar

        return opposite
    if constant == 0:

        def nothing(out_bar: Any, saved: Any) -> Any:
            return _raw.zeros(out_bar.shape, out_bar.dtype)

        return nothing
    if constant is not None:

        def multiple(out_bar: Any, saved: Any) -> Any:
            return out_bar * constant

        return multiple
    if residual is not None and product is _multiply:

        def scaled(out_bar: Any, saved: Any) -> Any:
            return out_bar * saved[residual]

        return scaled

    if product is _multiply:

        def multiplied(out_bar: Any, saved: Any) -> Any:
            return out_bar * of(_raw, saved)

        return multiplied

    def guarded(out_bar: Any, saved: Any) -> Any:
        return product(of(_raw, saved), out_bar)

    return guarded


def _derive(primitive: Primitive) -> None:
    """Derive pulls, JVP and batching from the partials."""
    plain = guarded_product if primitive.masks or primitive.singular else _multiply
    primitive.pull = _make_pull(primitive, plain)
    primitive.pull_masked = primitive.pull if plain is guarded_product else _make_pull(primitive, guarded_product)
    primitive.pull_tracked = _make_tracked_pull(primitive, primitive.masks or primitive.singular)
    primitive.jvp, primitive.push = forward_rules(primitive)
    primitive.batch = _make_batch(primitive)


def _make_pull(primitive: Primitive, product: Callable[[Any, Any], Any]) -> Callable[[Any, Any], tuple[Any, ...]]:
    bars = [None if p is None else _raw_bar(p, product) for p in primitive.partial_rules]
    if len(bars) == 1:
        return _make_unary_pull(primitive.partial_rules[0], bars[0], product)
    if len(bars) == 2 and None not in bars:
        first, second = primitive.partial_rules
        if first.constant == 1 and second.constant == 1:
            return _pull_sum
        if product is _multiply and first.residual == 1 and second.residual == 0:
            return _pull_product
        return _make_binary_pull(*bars)  # type: ignore[arg-type]

    def pull_any(node: Any, out_bar: Any) -> tuple[Any, ...]:
        saved = node.saved
        return tuple(
            [
                None if parent is None or bar is None else settle(_raw, bar(out_bar, saved), parent)
                for parent, bar in zip(node.inputs, bars)
            ]
        )

    return pull_any


def _make_unary_pull(partial: Partial, bar: Any, product: Callable[[Any, Any], Any]) -> Callable[..., tuple[Any, ...]]:
    rule = partial.single_rule
    if rule is not None and product is _multiply:

        def pull_unary_rule(node: Any, out_bar: Any) -> tuple[Any, ...]:
            x_bar = out_bar * rule(_raw, node.saved[0])[0]
            if x_bar.dtype is not (parent := node.inputs[0]).dtype:
                x_bar = settle(_raw, x_bar, parent)
            return (x_bar,)

        return pull_unary_rule

    def pull_unary(node: Any, out_bar: Any) -> tuple[Any, ...]:
        x_bar = bar(out_bar, node.saved)
        if x_bar.dtype is not (parent := node.inputs[0]).dtype:
            x_bar = settle(_raw, x_bar, parent)
        return (x_bar,)

    return pull_unary


def _pull_sum(node: Any, out_bar: Any) -> tuple[Any, ...]:
    """Pull back through x + y: the cotangent itself, twice."""
    x_node, y_node = node.inputs
    x_bar = y_bar = None
    if x_node is not None:
        x_bar = out_bar
        if node.shape != x_node.shape or node.dtype is not x_node.dtype:
            x_bar = settle(_raw, out_bar, x_node)
    if y_node is not None:
        y_bar = out_bar
        if node.shape != y_node.shape or node.dtype is not y_node.dtype:
            y_bar = settle(_raw, out_bar, y_node)
    return x_bar, y_bar


def _pull_product(node: Any, out_bar: Any) -> tuple[Any, ...]:
    """Pull back through x * y: the cotangent times the other factor."""
    x_node, y_node = node.inputs
    x, y, _ = node.saved
    x_bar = y_bar = None
    if x_node is not None:
        x_bar = out_bar * y
        if node.shape != x_node.shape or x_bar.dtype is not x_node.dtype:
            x_bar = settle(_raw, x_bar, x_node)
    if y_node is not None:
        y_bar = out_bar * x
        if node.shape != y_node.shape or y_bar.dtype is not y_node.dtype:
            y_bar = settle(_raw, y_bar, y_node)
    return x_bar, y_bar


def _make_binary_pull(
    x_rule: Callable[[Any, Any], Any], y_rule: Callable[[Any, Any], Any]
) -> Callable[[Any, Any], tuple[Any, ...]]:
    def pull_binary(node: Any, out_bar: Any) -> tuple[Any, ...]:
        x_node, y_node = node.inputs
        saved = node.saved
        x_bar = y_bar = None
        if x_node is not None:
            x_bar = x_rule(out_bar, saved)
            if node.shape != x_node.shape or x_bar.dtype is not x_node.dtype:
                x_bar = settle(_raw, x_bar, x_node)
        if y_node is not None:
            y_bar = y_rule(out_bar, saved)
            if node.shape != y_node.shape or y_bar.dtype is not y_node.dtype:
                y_bar = settle(_raw, y_bar, y_node)
        return x_bar, y_bar

    return pull_binary


def _make_tracked_pull(primitive: Primitive, always: bool) -> Callable[[Any, Any, bool], tuple[Any, ...]]:
    def pull_tracked(node: Any, out_bar: Any, masked: bool) -> tuple[Any, ...]:
        xp = boxing.operations
        saved = boxed_residuals(node)
        bars: list[Any] = []
        for parent, partial in zip(node.inputs, primitive.partial_rules):
            if parent is None or partial is None:
                bars.append(None)
                continue
            local = partial.constant if partial.constant is not None else partial.of(xp, saved)
            bars.append(settle(xp, product_in(xp, local, out_bar, masked or always), parent))
        return tuple(bars)

    return pull_tracked


def _make_batch(primitive: Primitive) -> Callable[..., tuple[Any, Any]]:
    def batch(xp: Any, args: tuple[Any, ...], axes: tuple[Any, ...], params: dict[str, Any]) -> tuple[Any, Any]:
        return bind(primitive, batch_elementwise(xp, args, axes), params), 0

    return batch


__all__ = ["all_finite", "elementwise", "evaluate", "product_in"]
