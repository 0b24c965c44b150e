"""Reads rule signatures: the parameter names of a rule are the declaration of what the tape keeps for it.

A rule may name `xp` (the namespace that it computes in), `out_bar` (the incoming cotangent), the operation's array
arguments, `<argument>_shape` and `<argument>_dtype`, `out`, and the operation's static parameters. Any other name is
refused when the module is imported.
"""

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core import boxing
from ..core.dispatch import projection
from ..core.primitive import Primitive
from ..errors import DeclarationError
from ..typing import Rule


def signature(function: Callable[..., Any]) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """Return (positional names, keyword-only names, name of *args or None); `inspect` would cost import time."""
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    end = code.co_argcount + code.co_kwonlyargcount
    variadic = code.co_varnames[end] if code.co_flags & 0x04 else None
    return positional, code.co_varnames[code.co_argcount : end], variadic


def read_impl(primitive: Primitive, impl: Rule) -> None:
    """Fill in the names of a primitive's arguments and parameters from `impl(xp, ..., *, params)`."""
    positional, keywords, variadic = signature(impl)
    if not positional or positional[0] != "xp":
        raise DeclarationError(f"{primitive.name}: an impl takes the namespace first, impl(xp, ...)")
    primitive.arguments = (variadic,) if variadic else positional[1:]
    primitive.variadic = variadic is not None
    primitive.parameters = keywords


_SUFFIXES = ("_shape", "_dtype")


def residual_names(primitive: Primitive, rule: Rule, extra: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the names of what the tape must keep for a rule, refusing names that mean nothing.

    Raises:
        DeclarationError: the rule asks for something that the operation does not have.
    """
    positional, keywords, variadic = signature(rule)
    known = {*primitive.arguments, "out"} | {a + s for a in primitive.arguments for s in _SUFFIXES}
    kept: list[str] = []
    for name in positional + keywords:
        if name in known:
            kept.append(name)
        elif name not in ("xp", "out_bar", *primitive.parameters, *extra):
            raise DeclarationError(
                f"{rule.__name__}: {name!r} is nothing that {primitive.name} has. A rule may name xp, out_bar, out, "
                f"{', '.join(primitive.arguments)}, the same with _shape or _dtype, and the parameters "
                f"{', '.join(primitive.parameters) or '(none)'}"
            )
    if variadic:
        raise DeclarationError(f"{rule.__name__}: a rule names what it needs; *{variadic} does not say")
    return tuple(kept)


class Plan:
    """How to gather what the rules need when an operation is recorded, and which inputs' rules need it."""

    __slots__ = ("entries", "gather_one", "needs", "primitive")

    def __init__(self, primitive: Primitive, needs: list[tuple[str, ...]]) -> None:
        self.primitive = primitive
        names: list[str] = []
        for needed in needs:
            names.extend(name for name in needed if name not in names)
        primitive.residuals = tuple(names)
        self.needs = needs

    def __getattr__(self, name: str) -> Any:
        # The gatherers are made when the operation is first recorded, so that an import need not make all of them.
        if name not in ("entries", "gather_one"):
            raise AttributeError(name)
        primitive, needs = self.primitive, self.needs
        names = [name for name in primitive.residuals if any([name in needed for needed in needs])]
        self.entries = [
            (_gatherer(primitive, name), tuple([i for i, needed in enumerate(needs) if name in needed]))
            for name in names
        ]
        self.gather_one = _single_gatherer(primitive, primitive.residuals)
        return object.__getattribute__(self, name)

    def gather(self, data: tuple[Any, ...], nodes: tuple[Any, ...], out: Any) -> tuple[Any, ...]:
        """Return what the tape keeps: residuals that only untracked inputs would need stay out."""
        if self.primitive.variadic or len(nodes) == 1:
            return tuple([gatherer(data, out) for gatherer, _ in self.entries])
        tracked = {i for i, node in enumerate(nodes) if node is not None}
        return tuple(
            [gatherer(data, out) if not tracked.isdisjoint(needed_by) else None for gatherer, needed_by in self.entries]
        )


def _gatherer(primitive: Primitive, name: str) -> Callable[[tuple[Any, ...], Any], Any]:
    if name == "out":
        return _gather_out
    for suffix, reader in (("_shape", _shape_of), ("_dtype", _dtype_of)):
        if name.endswith(suffix):
            return _argument_gatherer(primitive, name.removesuffix(suffix), reader)
    return _argument_gatherer(primitive, name, None)


def _single_gatherer(primitive: Primitive, names: tuple[str, ...]) -> Callable[[Any, Any], tuple[Any, ...]]:
    """Return `gather_one(data, out)` for an operation of one argument, without loops for what is usual."""
    x = primitive.arguments[0]
    usual: dict[tuple[str, ...], Callable[[Any, Any], tuple[Any, ...]]] = {
        (): _gather_nothing,
        (x,): _gather_input,
        ("out",): _gather_only_out,
        (f"{x}_shape",): _gather_shape,
        (f"{x}_shape", f"{x}_dtype"): _gather_shape_and_dtype,
    }
    if names in usual and not primitive.variadic:
        return usual[names]
    gatherers = [_gatherer(primitive, name) for name in names]

    def gather_any(data: Any, out: Any) -> tuple[Any, ...]:
        return tuple([gatherer((data,), out) for gatherer in gatherers])

    return gather_any


def _gather_nothing(data: Any, out: Any) -> tuple[Any, ...]:
    return ()


def _gather_input(data: Any, out: Any) -> tuple[Any, ...]:
    return (data,)


def _gather_only_out(data: Any, out: Any) -> tuple[Any, ...]:
    return (out,)


def _gather_shape(data: Any, out: Any) -> tuple[Any, ...]:
    return (data.shape,)


def _gather_shape_and_dtype(data: Any, out: Any) -> tuple[Any, ...]:
    return (data.shape, data.dtype)


def _gather_out(data: tuple[Any, ...], out: Any) -> Any:
    return out


def _shape_of(value: Any) -> Any:
    return value.shape if hasattr(value, "shape") else ()


def _dtype_of(value: Any) -> Any:
    return value.dtype


def _argument_gatherer(
    primitive: Primitive, argument: str, reader: Callable[[Any], Any] | None
) -> Callable[[tuple[Any, ...], Any], Any]:
    if primitive.variadic:

        def gather_all(data: tuple[Any, ...], out: Any) -> Any:
            return data if reader is None else tuple([reader(value) for value in data])

        return gather_all
    position = primitive.arguments.index(argument)

    def gather_one(data: tuple[Any, ...], out: Any) -> Any:
        return data[position] if reader is None else reader(data[position])

    return gather_one


def rule_caller(primitive: Primitive, rule: Rule) -> Callable[[Any, Any, Any, Any], Any]:
    """Return `call(xp, out_bar, saved, params)`, which hands a rule what its parameters name."""
    positional, keywords, _ = signature(rule)
    sources: list[tuple[int, Any]] = []
    for name in positional + keywords:
        if name == "xp":
            sources.append((0, None))
        elif name == "out_bar":
            sources.append((1, None))
        elif name in primitive.residuals:
            sources.append((2, primitive.residuals.index(name)))
        else:
            sources.append((3, name))
    split = len(positional)
    if keywords:

        def call_with_keywords(xp: Any, out_bar: Any, saved: Any, params: Any) -> Any:
            values = [_pick(source, xp, out_bar, saved, params) for source in sources]
            return rule(*values[:split], **dict(zip(keywords, values[split:])))

        return call_with_keywords

    def call(xp: Any, out_bar: Any, saved: Any, params: Any) -> Any:
        return rule(*[_pick(source, xp, out_bar, saved, params) for source in sources])

    return call


def _pick(source: tuple[int, Any], xp: Any, out_bar: Any, saved: Any, params: Any) -> Any:
    where, key = source
    if where == 2:
        return saved[key]
    if where == 0:
        return xp
    return out_bar if where == 1 else params[key]


def _boxed(value: Any, parent: Any, recorded: bool) -> Any:
    """Return a residual as a Tensor on the Node where the value did hang, or off that tape."""
    if isinstance(value, boxing.Tensor):  # of a Node over tracers; what is from further out keeps its history there
        return value if parent is None else boxing.with_node(value, parent if recorded else None)
    return boxing.box(value, parent if recorded else None) if hasattr(value, "dtype") else value


def _boxed_output(node: Any, value: Any, recorded: bool) -> Any:
    if node.primitive.multiple:
        return tuple(
            [_boxed(out, projection(node, i, out) if recorded else None, recorded) for i, out in enumerate(value)]
        )
    return _boxed(value, node, recorded)


def boxed_residuals(node: Any) -> tuple[Any, ...]:
    """Return what a Node saved as Tensors that hang on the tape where the values did, so that rules can be recorded.

    In a sweep that is not to be recorded on the Node's own tape they do not hang there.
    """
    recorded = node.recorded
    node = node.whole
    primitive = node.primitive
    inputs = node.inputs
    boxed: list[Any] = []
    for name, value in zip(primitive.residuals, node.saved):
        if value is None or name.endswith(_SUFFIXES):
            boxed.append(value)
        elif name == "out":
            boxed.append(_boxed_output(node, value, recorded))
        elif primitive.variadic:
            boxed.append(tuple([_boxed(item, parent, recorded) for item, parent in zip(value, inputs)]))
        else:
            boxed.append(_boxed(value, inputs[primitive.arguments.index(name)], recorded))
    return tuple(boxed)
