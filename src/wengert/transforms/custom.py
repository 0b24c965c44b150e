"""Operations of users' own: `wg.primitive`, with its rules for reverse mode, forward mode and batching on one object.

The forward is any Python function of arrays. What it computes is one entry on the tape, whatever it does inside: it may
call C, Fortran, or a program that knows nothing of derivatives.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, overload

import numpy as np

from ..core import boxing
from ..core.dispatch import bind
from ..core.primitive import OPAQUE, Primitive
from ..core.recording import is_recording
from ..core.tape import location
from ..core.tracing import is_followed
from ..core.vspace import OutputBars
from ..core.zeros import NO_TANGENT, ZERO, is_zero
from ..declare.residuals import boxed_residuals
from ..errors import DeclarationError
from ..typing import Params
from .custom_batching import (
    ELEMENTWISE,
    LEADING,
    batch_by_rule,
    batch_elementwise,
    batch_in_loop,
    batch_leading,
    boxed,
    checked_way,
    warn_of_loop,
)
from .custom_calls import Call, Captures, ForwardError, Parameters, run_forward
from .custom_rules import Rules
from .verifier import Verifier
from .written_rules import BATCH, JVP, VJP, Like, Point, like_of


class CustomPrimitive:
    """A function with derivatives of its own; what `wg.primitive` makes. It is called like the function.

    >>> import wengert as wg
    >>> @wg.primitive
    ... def cube(x):
    ...     return x**3
    >>> @cube.defvjp
    ... def cube_vjp(out_bar, x):
    ...     return 3 * x**2 * out_bar
    >>> cube
    <primitive cube(x): vjp as written, jvp derived, batched in a loop>
    >>> cube(2.0), wg.grad(cube)(2.0)
    (Tensor(8., dtype=float32), Tensor(12., dtype=float32))
    """

    def __init__(
        self,
        function: Callable[..., Any],
        static: Sequence[str] = (),
        nondifferentiable: Sequence[str] = (),
        batch: str | None = None,
        check: bool = True,
    ) -> None:
        name = getattr(function, "__name__", type(function).__name__)
        self.function = function
        self.parameters = Parameters(function, name, static, nondifferentiable)
        self.rules = Rules(self.parameters)
        self._records: dict[tuple[int, ...], Primitive] = {}
        self._way = checked_way(batch, name)
        self._warned = False
        self._verifier = Verifier(self.rules, function, check)
        self._captures = Captures(function)
        functools.update_wrapper(self, function)
        self.__name__ = name
        self.__qualname__: str = getattr(function, "__qualname__", name)
        self.__signature__ = self.parameters.signature

    # ------------------------------------------------------------------ rules

    @overload
    def defvjp(self, rule: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
    @overload
    def defvjp(self, rule: Callable[..., Any]) -> Callable[..., Any]: ...
    def defvjp(self, rule: Any) -> Any:
        """Add the rule for reverse mode; a decorator.

        The rule's parameters say by name what it needs, and that alone is kept on the tape: `out_bar`, the cotangent
        of the output (nested as the output is; zeros where there is none, None for integers), `out`, and the forward's
        own parameters. All arrays are Tensors, so that a rule which is written in functions of wengert or NumPy can be
        differentiated again.

        Args:
            rule: returns the cotangents of the forward's parameters that are neither static nor nondifferentiable: the
                one, or a tuple in their order, or a dict by name. Each is nested as its argument is and has the shapes
                of its arrays; None stands for zero. With the name of a parameter in its place, `@f.defvjp("x")`, the
                decorated rule is for that parameter alone, and runs only where it is tracked.

        Raises:
            DeclarationError: the rule names something that the forward does not have.

        >>> import wengert as wg
        >>> @wg.primitive
        ... def scaled(x, factor):
        ...     return x * factor
        >>> @scaled.defvjp
        ... def scaled_vjp(out_bar, x, factor):
        ...     return factor * out_bar, (x * out_bar).sum()
        >>> [g.tolist() for g in wg.grad(lambda x, k: scaled(x, k).sum(), (0, 1))(wg.tensor([1.0, 2.0]), 5.0)]
        [[5.0, 5.0], 3.0]
        """
        return self._attach(VJP, rule)

    @overload
    def defjvp(self, rule: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
    @overload
    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]: ...
    def defjvp(self, rule: Any) -> Any:
        """Add the rule for forward mode; a decorator.

        The rule may name `<parameter>_dot`, the tangents, nested as the arguments are (None for integers and static
        values), the forward's parameters, and `out`. Without a vjp rule, reverse mode is derived from this one.

        Args:
            rule: returns the tangent of the output, nested as the output is; None stands for zero. With the name of a
                parameter in its place, `@f.defjvp("x")`, the decorated rule is for that parameter alone, the others at
                rest; the tangents of all add up.

        Raises:
            DeclarationError: the rule names something that the forward does not have.

        >>> import wengert as wg
        >>> @wg.primitive
        ... def cube(x):
        ...     return x**3
        >>> @cube.defjvp
        ... def cube_jvp(x, x_dot):
        ...     return 3 * x**2 * x_dot
        >>> wg.grad(wg.grad(cube))(2.0)
        Tensor(12., dtype=float32)
        """
        return self._attach(JVP, rule)

    def defbatch(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Add the rule for many calls at once, which `vmap` uses; a decorator.

        The rule names the forward's parameters, and gets their arrays as Tensors with the mapped axis in front: all of
        them, those that are the same in every call repeated. Where it names `<parameter>_axis` too, it gets that
        parameter as it is, and 0 or None for the mapped axis of each of its arrays. `axis_size` is the number of calls.

        Args:
            rule: returns the outputs, nested as the forward's, the mapped axis in front of all of them.

        Raises:
            DeclarationError: the rule names something that the forward does not have.

        >>> import numpy as np
        >>> import wengert as wg
        >>> @wg.primitive
        ... def solve(a, b):
        ...     return np.linalg.solve(a, b[..., None])[..., 0]
        >>> @solve.defbatch
        ... def solve_batch(a, b):
        ...     return solve(a, b)  # it takes leading axes as it is; batch="leading" says the same
        """
        if isinstance(rule, str):
            raise DeclarationError(f"{self.__name__}.defbatch takes the rule itself: it is for all parameters together")
        return self._attach(BATCH, rule)

    def _attach(self, kind: str, rule: Any) -> Any:
        if isinstance(rule, str):

            def attach(function: Callable[..., Any]) -> Callable[..., Any]:
                self.rules.attach(kind, function, rule)
                self._verifier.forget()
                return function

            return attach
        if not callable(rule):
            raise DeclarationError(
                f"{self.__name__}.def{kind} takes a rule, or the name of a parameter, not {type(rule).__name__}"
            )
        self.rules.attach(kind, rule, None)
        self._verifier.forget()
        return rule

    # ------------------------------------------------------------------ calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; its result is on the tape if an argument is."""
        visible = is_recording() is not False
        if visible:
            self._captures.refuse_tracked(self.__name__)
        call = Call(self.parameters)
        arrays = call.take(self.parameters.values(args, kwargs), visible)
        try:
            outs = self.apply(arrays, call)
            self._check_recorded(call, arrays, outs)
            return call.out_structure.unflatten(outs)
        except ForwardError as stop:
            failure = stop.error
        raise failure

    def apply(self, arrays: Sequence[Any], call: Call) -> tuple[Any, ...]:
        """Call it on the arrays of a call; return the arrays of the outputs."""
        owners = tuple(call.owners)
        record = self._records.get(owners)
        if record is None:
            record = self._records[owners] = _record(self, owners)
        return bind(record, tuple(arrays), {"call": call})

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        ways = {None: "in a loop", ELEMENTWISE: "element by element", LEADING: "along leading axes"}
        batching = "as written" if self.rules.batch is not None else ways.get(self._way, "in a loop")
        described = [f"{kind} {self._described(kind)}" for kind in (VJP, JVP)] + [f"batched {batching}"]
        return f"<primitive {self.__name__}{self.parameters.bare_signature}: {', '.join(described)}>"

    def _described(self, kind: str) -> str:
        written = {VJP: self.rules.vjp or self.rules.vjp_of, JVP: self.rules.jvp or self.rules.jvp_of}
        if written.pop(kind):
            return "as written"
        return "derived" if any(written.values()) else "missing"

    def __reduce__(self) -> str:
        return self.__qualname__

    # ------------------------------------------------------------------ for the tape and the transforms

    def gather(
        self, owners: tuple[int, ...], data: tuple[Any, ...], nodes: tuple[Any, ...], outs: Sequence[Any]
    ) -> tuple[Any, ...]:
        """Return what the tape keeps of a call: what the rules of the tracked parameters name, and nothing else."""
        nothing = (None,) * len(data)
        if not any([out.dtype.kind in "fc" for out in outs]):
            return nothing, None, nothing
        names: set[str] = set()
        for p in {p for p, node in zip(owners, nodes) if node is not None}:
            names.update(self.rules.demand(p)[0].names)
        kept = [value if self.parameters.names[p] in names else None for value, p in zip(data, owners)]
        return tuple(kept), tuple(outs) if "out" in names else None, tuple([like_of(value) for value in data])

    def pull(self, node: Any, out_bar: Any, masked: bool = False) -> tuple[Any, ...]:
        """Pull raw cotangents back."""
        arrays, outs, _ = node.saved
        boxes = [boxing.box(value) if hasattr(value, "dtype") else value for value in arrays]
        out_boxes = None if outs is None else [boxing.box(out) for out in outs]
        bars = self._pulled(node, out_bar, boxes, out_boxes, False, masked)
        return tuple([None if bar is None else boxing.data_of(bar) for bar in bars])

    def pull_masked(self, node: Any, out_bar: Any) -> tuple[Any, ...]:
        """Pull raw cotangents back, among them zeros that must stay zeros."""
        return self.pull(node, out_bar, True)

    def pull_tracked(self, node: Any, out_bar: Any, masked: bool) -> tuple[Any, ...]:
        """Pull back Tensors, so that the result can be differentiated again."""
        boxes, outs = boxed_residuals(node)
        boxes = [box if hasattr(value, "dtype") else value for box, value in zip(boxes, node.saved[0])]
        return tuple(self._pulled(node, out_bar, boxes, outs, True, masked))

    def _pulled(
        self, node: Any, out_bar: Any, arrays: Sequence[Any], outs: Any, tracked: bool, masked: bool
    ) -> list[Any]:
        given = out_bar.bars if type(out_bar) is OutputBars else dict(enumerate(out_bar))
        bars: list[Any] = []
        for i, (shape, dtype) in enumerate(zip(node.shape, node.dtype)):
            bar = given.get(i)
            if bar is not None and not isinstance(bar, boxing.Tensor):
                bar = boxing.box(bar)
            if bar is None and dtype.kind in "fc":
                bar = boxing.box(np.zeros(shape, dtype))
            bars.append(bar)
        tracked = tracked and any(
            [isinstance(x, boxing.Tensor) and is_followed(x) for x in (*bars, *arrays, *(outs or ()))]
        )
        out_likes = [Like(shape, dtype) for shape, dtype in zip(node.shape, node.dtype)]
        point = Point(node.params["call"], arrays, outs, node.saved[2], out_likes, tracked)
        wanted = [parent is not None for parent in node.inputs]
        try:
            if tracked:
                self._verifier.check_again(node, out_likes, wanted)
            pulled = self.rules.pull(point, bars, wanted)
        except Exception as error:
            error.add_note(f"in the derivative of {self.__name__}, called at {location(node)}")
            raise
        if masked and self._way == ELEMENTWISE and len(bars) == 1:
            return [_with_zeros(bar, bars[0]) for bar in pulled]
        return pulled

    def jvp(self, xp: Any, primals: tuple[Any, ...], tangents: tuple[Any, ...], params: Params) -> Any:
        """Push tangents, on Tensors, or on raw arrays where nobody records."""
        call = params["call"]
        if xp is boxing.operations:
            return self._pushed(call, [boxed(x) for x in primals], tangents)
        boxes = [boxing.box(np.asarray(x)) if hasattr(x, "dtype") else x for x in primals]
        dots = [dot if is_zero(dot) else boxing.box(np.asarray(dot)) for dot in tangents]
        try:
            outs, out_dots = self._pushed(call, boxes, dots)
        except ForwardError:
            raise
        except Exception as error:
            raise ForwardError(error) from error
        return (
            tuple([boxing.data_of(out) for out in outs]),
            tuple([dot if is_zero(dot) else boxing.data_of(dot) for dot in out_dots]),
        )

    def _pushed(self, call: Call, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
        outs = self.apply(primals, call)
        moving = [floating and not is_zero(dot) for floating, dot in zip(call.floating, tangents)]
        absent = [ZERO if out.dtype.kind in "fc" else NO_TANGENT for out in outs]
        if not any(moving) or ZERO not in absent:
            return outs, tuple(absent)
        for p in {p for p, moves in zip(call.owners, moving) if moves}:
            self.rules.demand(p)
        self._verifier.check(call, primals, moving)
        likes = [like_of(x) for x in primals]
        dots = [dot if moves else None for dot, moves in zip(tangents, moving)]
        pushed = self.rules.push(Point(call, primals, outs, likes, outs, tracked=False), dots)
        return outs, tuple([nothing if dot is None else dot for dot, nothing in zip(pushed, absent)])

    def batch(self, xp: Any, args: tuple[Any, ...], axes: tuple[Any, ...], params: Params) -> Any:
        """Call it for many examples at once."""
        call: Call = params["call"]
        rule = self.rules.batch
        if rule is not None:
            outs = batch_by_rule(rule, args, axes, call)
            self._verifier.check_batching(call, args, axes, outs)
        elif self._way == ELEMENTWISE:
            outs = batch_elementwise(self.apply, args, axes, call)
        elif self._way == LEADING:
            outs = batch_leading(self.apply, args, axes, call)
        else:
            if self._way is None and not self._warned:
                self._warned = True
                warn_of_loop(self.__name__)
            outs = batch_in_loop(self.apply, args, axes, call)
        return outs, (0,) * len(outs)

    def _check_recorded(self, call: Call, arrays: Sequence[Any], outs: Sequence[Any]) -> None:
        """Check the rules if a call has been recorded, and they have not been checked for such a call."""
        node = next((out._node for out in outs if type(out) is boxing.Tensor and out._node is not None), None)
        if node is not None:
            self._verifier.check(call, arrays, [parent is not None for parent in node.inputs[0].inputs])


def _with_zeros(bar: Any, out_bar: Any) -> Any:
    """Put zeros where a zero cotangent met an infinite derivative, element by element: that is what a mask left out."""
    if bar is None or bar.shape != out_bar.shape:
        return bar
    xp = boxing.operations
    return xp.where(xp.logical_and(xp.equal(out_bar, 0), xp.logical_not(xp.isfinite(bar))), 0.0, bar)


class _Plan:
    """Gathers what the tape keeps of calls whose arrays belong to given parameters."""

    __slots__ = ("operation", "owners")

    def __init__(self, operation: CustomPrimitive, owners: tuple[int, ...]) -> None:
        self.operation = operation
        self.owners = owners

    def gather(self, data: tuple[Any, ...], nodes: tuple[Any, ...], outs: Sequence[Any]) -> tuple[Any, ...]:
        """Return what the tape keeps."""
        return self.operation.gather(self.owners, data, nodes, outs)


def _record(operation: CustomPrimitive, owners: tuple[int, ...]) -> Primitive:
    """Return the record by which the tape and the tracers know the operation: any number of arrays in, several out."""

    def impl(xp: Any, *arrays: Any, call: Call) -> tuple[Any, ...]:
        return run_forward(operation.function, call, arrays)

    def call_on_arrays(*arrays: Any, call: Call) -> tuple[Any, ...]:
        return operation.apply(arrays, call)

    record = Primitive(operation.__name__, OPAQUE, impl)
    record.arguments = ("arrays",)
    record.parameters = ("call",)
    record.residuals = ("arrays", "out")
    record.variadic = record.multiple = True
    record.rules["plan"] = _Plan(operation, owners)
    record.pull = operation.pull
    record.pull_masked = operation.pull_masked
    record.pull_tracked = operation.pull_tracked
    record.jvp = operation.jvp
    record.batch = operation.batch
    record.call = call_on_arrays
    return record


@overload
def primitive(function: Callable[..., Any], /) -> CustomPrimitive: ...
@overload
def primitive(
    *,
    static: Sequence[str] = (),
    nondifferentiable: Sequence[str] = (),
    batch: str | None = None,
    check: bool = True,
) -> Callable[[Callable[..., Any]], CustomPrimitive]: ...
def primitive(
    function: Callable[..., Any] | None = None,
    /,
    *,
    static: Sequence[str] = (),
    nondifferentiable: Sequence[str] = (),
    batch: str | None = None,
    check: bool = True,
) -> Any:
    """Make an operation of a function that runs on bare arrays; a decorator, with or without options.

    The function, the *forward*, gets read-only NumPy arrays where it was given arrays or Tensors, and everything else
    as it was given: Python floats, and what is static (strings, integers, booleans, functions, any other object). It
    returns arrays or numbers, in any nesting. `f.defvjp`, `f.defjvp` and `f.defbatch` add its rules. Either of the
    first two will do: the other is derived. Without any, it works on what is not tracked.

    Args:
        function: the forward.
        static: parameters that are handed on as they are, whatever they hold. Tensors in them carry no gradient, and
            tracked ones are refused.
        nondifferentiable: parameters whose arrays are data, by which no derivative is known; tracked ones are refused.
        batch: how `vmap` batches it without a rule: "elementwise" (it treats all elements alike, one by one), "leading"
            (forward and rules take any number of leading axes), "loop" (one example after the other; it is what is
            done anyway, with a warning).
        check: whether its rules are checked when they are first used; see `set_rule_checking`.

    Returns:
        The operation, which is called as the function is.

    Raises:
        DeclarationError: an option names no parameter, or a parameter has a name that means something else in rules.

    >>> import numpy as np
    >>> import wengert as wg
    >>> @wg.primitive(static=("axis",))
    ... def ordered(x, axis=-1):
    ...     order = np.argsort(x, axis)
    ...     return np.take_along_axis(x, order, axis), order
    >>> @ordered.defvjp
    ... def ordered_vjp(out_bar, out, axis):
    ...     _, order = out
    ...     return wg.take_along_axis(out_bar[0], wg.argsort(order, axis=axis), axis=axis)
    >>> x = wg.tensor([3.0, 1.0, 2.0], requires_grad=True)
    >>> values, order = ordered(x)
    >>> values[0].backward()
    >>> order, x.grad
    (Tensor([1, 2, 0]), Tensor([0., 1., 0.], dtype=float32))
    """
    options: Any = dict(static=static, nondifferentiable=nondifferentiable, batch=batch, check=check)
    if function is None:
        return functools.partial(CustomPrimitive, **options)
    if not callable(function):
        raise DeclarationError(
            f"primitive decorates a function, not a {type(function).__name__}; options are given by name"
        )
    return CustomPrimitive(function, **options)


__all__ = ["CustomPrimitive", "primitive"]
