"""Compiled functions inside of other transforms: `jvp`, `vmap` and tapes of a compiled function run native code, too.

Such a call is one operation, with rules of its own: a tangent is pushed, and cotangents are pulled, by programs made of
the function's own `jvp` and `vjp`, and examples are mapped by one of its `vmap`. Those are compiled functions as well,
so that transforms may be nested to any depth: each level's rule is called with what lies one level further out. Where a
function does more than compute (it writes, draws or prints), it runs as it was written.
"""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import boxing
from ..core.batching import BatchTrace
from ..core.dispatch import bind
from ..core.forward import ForwardTrace
from ..core.primitive import CLOSURE, Primitive
from ..core.pytree import Structure, flatten
from ..core.recording import set_recording
from ..core.tracing import Trace, snapshot
from ..core.vspace import OutputBars
from ..core.zeros import NO_TANGENT, ZERO, is_zero
from ..declare.residuals import boxed_residuals
from ..typing import Params
from .derivative import entered_here, is_taped_here, pulled_back
from .sources import Unfit

Make = Callable[[Callable[..., Any]], Any]
"""Compiles a function for calls inside of transforms: it raises Unfit instead of doing more than to compute."""


class Unknown(Unfit):
    """A transform is at work that takes operations one by one."""


class Inside:
    """A function, and what is compiled of it for calls inside of transforms.

    Args:
        function: the function as it was written.
        make: compiles one.
    """

    def __init__(self, function: Callable[..., Any], make: Make) -> None:
        self._function = function
        self._make = make
        self._made: dict[Any, Any] = {}
        self._failures: Counter[type[Trace]] = Counter()

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function on arguments among which there are tracers.

        Raises:
            Unfit: it has to be run as it was written.
        """
        leaves, structure = flatten((args, kwargs))
        # As Tensors: an array would come back as one, and not be counted among the results that have tangents.
        leaves = [boxing.borrow(leaf) if _is_lent(leaf) else leaf for leaf in leaves]
        traces = [leaf._state.trace for leaf in leaves if type(leaf) is boxing.Tracer]
        if not traces or not all(map(_is_known, traces)):
            raise Unknown
        innermost = type(max(traces, key=_by_level))
        if self._failures[innermost] >= _MOST_FAILURES:
            raise Unfit
        call = Call(self, leaves, structure)
        try:
            outs = bind(CALLED, tuple([leaf for leaf in leaves if isinstance(leaf, boxing.Tensor)]), {"call": call})
        except Unknown:
            raise
        except Exception as error:
            # Its own error is told by the function as it was written, where the user's line is.
            self._failures[innermost] += 1
            raise Unfit from error
        return call.result(outs)

    def run(self, kind: str, structure: Structure, *args: Any) -> Any:
        """Run the function, or a derivative of it, or it for many examples, one level further out."""
        key = (kind, structure)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._make(self.as_written(kind, structure))
        return made(*args)

    def as_written(self, kind: str, structure: Structure) -> Callable[..., Any]:
        """Return the function, or a derivative of it, or it for many examples, as it runs without being compiled."""
        rule = _RULES[kind](self._function, structure)
        rule.__name__ = f"{kind} of {getattr(self._function, '__name__', 'a function')}"
        return rule


_MOST_FAILURES = 3
"""Calls in transforms of a kind that could not be made as one operation, before a function runs as it was written."""


def _by_level(trace: Trace) -> int:
    return trace.level


def _is_lent(leaf: Any) -> bool:
    return type(leaf) is np.ndarray and leaf.dtype.kind in "biufc"


def _is_known(trace: Trace) -> bool:
    return type(trace) in (ForwardTrace, BatchTrace) and trace.is_open


class Call:
    """What one call was made with, but for its Tensors.

    What it returns, but for Tensors, is known when it has run.
    """

    __slots__ = ("_form", "_others", "inside", "leaves", "places", "structure")
    _form: Structure
    _others: list[Any]

    def __init__(self, inside: Inside, leaves: Sequence[Any], structure: Structure) -> None:
        self.inside = inside
        self.structure = structure
        self.places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, boxing.Tensor)]
        self.leaves = [None if isinstance(leaf, boxing.Tensor) else leaf for leaf in leaves]

    def filled(self, tensors: Sequence[Any], others: bool = True) -> list[Any]:
        """Return the leaves of the arguments with these in the places of Tensors (without `others`: None elsewhere)."""
        leaves = list(self.leaves) if others else [None] * len(self.leaves)
        for place, tensor in zip(self.places, tensors):
            leaves[place] = tensor
        return leaves

    def returned(self, result: Any) -> list[Any]:
        """Return the Tensors of a result, and remember the rest of it."""
        leaves, self._form = flatten(result)
        self._others = [_HERE if isinstance(leaf, boxing.Tensor) else leaf for leaf in leaves]
        return [leaf for leaf in leaves if isinstance(leaf, boxing.Tensor)]

    def result(self, tensors: Sequence[Any]) -> Any:
        """Return the result with these in the places of its Tensors."""
        given = iter(tensors)
        return self._form.unflatten([next(given) if other is _HERE else other for other in self._others])


_HERE = object()
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


# ---------------------------------------------------------------------- what is compiled


def _checked(result: Any) -> list[Any]:
    leaves = flatten(result)[0]
    if not all([isinstance(leaf, (boxing.Tensor, *_PLAIN)) for leaf in leaves]):
        raise Unfit
    return leaves


def _value(function: Callable[..., Any], structure: Structure) -> Callable[..., Any]:
    def run(leaves: list[Any]) -> Any:
        args, kwargs = structure.unflatten(leaves)
        result = function(*args, **kwargs)
        _checked(result)
        return result

    return run


def _pushed(function: Callable[..., Any], structure: Structure) -> Callable[..., Any]:
    def push(leaves: list[Any], dots: list[Any]) -> Any:
        trace = ForwardTrace("jvp", getattr(function, "__name__", "a function"))
        with trace:
            moved = [x if dot is None else trace.dual(x, dot) for x, dot in zip(leaves, dots)]
            args, kwargs = structure.unflatten(moved)
            outs, form = flatten(function(*args, **kwargs))
            pairs = [_pair(out, trace) for out in _checked(outs)]
        return form.unflatten([out for out, _ in pairs]), [dot for out, dot in pairs if isinstance(out, boxing.Tensor)]

    return push


def _pair(out: Any, trace: ForwardTrace) -> tuple[Any, Any]:
    """Return (value, tangent or None) of a result."""
    if type(out) is not boxing.Tracer or out._state.trace is not trace:
        return out, None
    state = out._state
    return snapshot(state.primal), None if state.tangent is ZERO else snapshot(state.tangent)


def _pulled(function: Callable[..., Any], structure: Structure) -> Callable[..., Any]:
    def pull(leaves: list[Any], wanted: list[bool], bars: list[Any]) -> Any:
        leaves, bars = [snapshot(x) for x in leaves], [snapshot(bar) for bar in bars]
        tracked = any(map(is_taped_here, (*leaves, *bars)))
        leaves = [entered_here(x) if want else x for x, want in zip(leaves, wanted)]
        nodes = [x._node if want else None for x, want in zip(leaves, wanted)]
        before = set_recording(True)
        try:
            args, kwargs = structure.unflatten(leaves)
            outs = [out for out in flatten(function(*args, **kwargs))[0] if isinstance(out, boxing.Tensor)]
            return pulled_back(outs, bars, nodes, tracked)
        finally:
            set_recording(before)

    return pull


def _mapped(function: Callable[..., Any], structure: Structure) -> Callable[..., Any]:
    def run(leaves: list[Any], axes: list[Any], size: int) -> Any:
        trace = BatchTrace("vmap", getattr(function, "__name__", "a function"), size)
        with trace:
            entered = [
                x if axis is None else trace.mapped(boxing.operations.moveaxis(x, axis, 0) if axis else x)
                for x, axis in zip(leaves, axes)
            ]
            args, kwargs = structure.unflatten(entered)
            outs, form = flatten(function(*args, **kwargs))
            parts = [trace.apart(out) for out in _checked(outs)]
        axes_out = [axis for out, axis in parts if isinstance(out, boxing.Tensor)]
        return form.unflatten([out for out, _ in parts]), axes_out

    return run


_RULES = {"value": _value, "jvp": _pushed, "vjp": _pulled, "vmap": _mapped}


# ---------------------------------------------------------------------- the operation


def _call(*tensors: Any, call: Call) -> tuple[Any, ...]:
    return tuple(call.returned(call.inside.run("value", call.structure, call.filled(tensors))))


def _impl(xp: Any, *arrays: Any, call: Call) -> tuple[Any, ...]:
    raise TypeError("a compiled function is an operation on tracers alone")


def _jvp(xp: Any, primals: tuple[Any, ...], tangents: tuple[Any, ...], params: Params) -> Any:
    call: Call = params["call"]
    dots = [None if is_zero(dot) else dot for dot in tangents]
    leaves, given = call.filled(primals), call.filled(dots, others=False)
    result, out_dots = call.inside.run("jvp", call.structure, leaves, given)
    outs = call.returned(result)
    absent = [ZERO if out.dtype.kind in "fc" else NO_TANGENT for out in outs]
    moved = [nothing if dot is None else dot for dot, nothing in zip(out_dots, absent)]
    return tuple(outs), tuple(moved)


def _batch(xp: Any, args: tuple[Any, ...], axes: tuple[Any, ...], params: Params) -> Any:
    call: Call = params["call"]
    size = next(x.shape[axis] for x, axis in zip(args, axes) if axis is not None)
    given = call.filled(axes, others=False)
    result, out_axes = call.inside.run("vmap", call.structure, call.filled(args), given, size)
    return tuple(call.returned(result)), tuple(out_axes)


def _pull_tracked(node: Any, out_bar: Any, masked: bool) -> tuple[Any, ...]:
    call: Call = node.params["call"]
    (boxes,) = boxed_residuals(node)
    arrived = out_bar.bars if type(out_bar) is OutputBars else dict(enumerate(out_bar))
    bars = [arrived.get(i) for i in range(len(node.shape))]
    wanted = call.filled([parent is not None for parent in node.inputs], others=False)
    leaves = call.filled(boxes)
    given = leaves, [bool(want) for want in wanted], bars
    try:
        found = call.inside.run("vjp", call.structure, *given)
    except Unfit:  # what is on the tape has done nothing but compute, so that it may be run again
        found = call.inside.as_written("vjp", call.structure)(*given)
    return tuple([found[place] for place in call.places])


class _Plan:
    """Keeps all arguments of a call on the tape."""

    def gather(self, data: tuple[Any, ...], nodes: tuple[Any, ...], outs: Sequence[Any]) -> tuple[Any, ...]:
        """Return what the tape keeps."""
        return (data,)


CALLED = Primitive("a compiled function", CLOSURE, _impl)
CALLED.arguments = ("arrays",)
CALLED.parameters = ("call",)
CALLED.residuals = ("arrays",)
CALLED.variadic = CALLED.multiple = True
CALLED.rules["plan"] = _Plan()
CALLED.pull_tracked = _pull_tracked
CALLED.jvp = _jvp
CALLED.batch = _batch
CALLED.call = _call


__all__ = ["Inside"]
