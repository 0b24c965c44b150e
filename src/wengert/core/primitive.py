"""The record of a primitive operation, and the registry of all of them.

A Primitive carries everything that any part of the library may ask of an operation. The record is filled in by
`wengert.declare` from one declaration; nothing here knows how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..errors import DeclarationError
from ..typing import Params, Rule

ELEMENTWISE = "elementwise"
LINEAR = "linear"
BILINEAR = "bilinear"
REDUCTION = "reduction"
OPAQUE = "opaque"
CLOSURE = "closure"  # it may use Tensors that it is not given
NONDIFFERENTIABLE = "nondifferentiable"


def _undeclared(*_args: Any, **_params: Any) -> Any:
    raise DeclarationError("an operation was used whose declaration is not complete; the registry is not sealed yet")


class Primitive:
    """One operation: how it is computed, differentiated in both modes, batched, and checked.

    Attributes:
        impl: `impl(xp, *arrays, **params)`, the forward computation.
        arguments: names of the array arguments, in order (a single name for a variadic operation).
        variadic: whether the operation takes any number of arrays under its one argument name.
        fixed: names of array arguments that never carry a tangent (conditions, indices).
        multiple: whether the result is a tuple of arrays.
        view: whether the result is a view of its (only) argument, as in NumPy.
        masks: whether the derivative drops elements; from there on the sweep guards its products.
        singular: whether a partial can be infinite where the value is finite, so that products are always guarded.
        residuals: names of what the tape keeps for the rules, in the order of `Node.saved`.
        pull: `pull(node, out_bar) -> tuple` of raw cotangents, one for each input.
        pull_masked: the same, where an exactly zero cotangent contributes an exact zero.
        pull_tracked: the same on Tensors, so that the result can be differentiated again.
        pull_in_place: what a differentiable sweep calls instead, where writing into its own cotangents is cheaper.
        kernel: for elementwise operations, `kernel(*arrays)`: `impl` on raw arrays, NumPy's own function if it is that.
        push: for elementwise operations of one or two arguments, `jvp` at its quickest: `push(x, x_dot)` or
            `push(x, y, x_dot, y_dot)` on raw arrays returns (out, out_dot); tangents may be ZERO, but for one of them.
            With `lead`, the shape of a stack of tangents, these have its axes in front, and broadcast under them.
        jvp: `jvp(xp, primals, tangents, params) -> (out, out_dot)`.
        batch: `batch(xp, args, axes, params) -> (out, out_axis)`.
        takes_accumulators: whether `pull` may be handed an Accumulator, whose buffer it may write.
        call: the public function, fast path included.
    """

    __slots__ = (
        "_derivation",
        "arguments",
        "batch",
        "call",
        "domain",
        "fixed",
        "impl",
        "jvp",
        "kernel",
        "kind",
        "masks",
        "multiple",
        "name",
        "parameters",
        "partial_rules",
        "pull",
        "pull_in_place",
        "pull_masked",
        "pull_tracked",
        "push",
        "reference",
        "residuals",
        "rules",
        "samples",
        "singular",
        "special",
        "takes_accumulators",
        "variadic",
        "view",
    )

    def __init__(self, name: str, kind: str, impl: Rule) -> None:
        self.name = name
        self.kind = kind
        self.impl = impl
        self.arguments: tuple[str, ...] = ()
        self.parameters: tuple[str, ...] = ()
        self.variadic = False
        self.fixed: frozenset[str] = frozenset()
        self.multiple = False
        self.view = False
        self.masks = False
        self.singular = False
        self.takes_accumulators = False
        self.residuals: tuple[str, ...] = ()
        self.rules: dict[str, Any] = {}
        self.partial_rules: tuple[Any, ...] = ()
        self.pull: Callable[[Any, Any], tuple[Any, ...]] = _undeclared
        self.pull_masked = self.pull
        self.pull_tracked: Callable[[Any, Any, bool], tuple[Any, ...]] = _undeclared
        self.pull_in_place: Callable[[Any, Any], tuple[Any, ...]] | None = None
        self.jvp: Callable[[Any, tuple[Any, ...], tuple[Any, ...], Params], tuple[Any, Any]] = _undeclared
        self.kernel: Callable[..., Any] = _undeclared
        self.push: Callable[..., tuple[Any, Any]] = _undeclared
        self.batch: Callable[[Any, tuple[Any, ...], tuple[Any, ...], Params], tuple[Any, Any]] = _undeclared
        self.call: Callable[..., Any] = _undeclared
        self.domain: Any = None
        self.samples: Any = None
        self.special: Any = ()
        self.reference: Any = None

    def derive_when_needed(self, names: tuple[str, ...], derivation: Callable[[], None]) -> None:
        """Leave attributes unset until one of them is read; `derivation()` sets them all.

        An import would otherwise spend its time on rules that most programs never use.
        """
        for name in names:
            delattr(self, name)
        self._derivation = (names, derivation)

    def __getattr__(self, name: str) -> Any:
        # Called for slots that are unset: those that are derived when needed, and no others.
        names, derivation = object.__getattribute__(self, "_derivation")
        if name not in names:
            raise AttributeError(name)
        derivation()
        return object.__getattribute__(self, name)

    def __repr__(self) -> str:
        return f"<{self.kind} primitive {self.name}>"


class Registry:
    """All operations by name. Sealed once every operation is declared; a half-declared one is refused there."""

    def __init__(self) -> None:
        self._primitives: dict[str, Primitive] = {}
        self._composites: dict[str, Any] = {}
        self._pending: dict[str, Callable[[], None]] = {}

    def add(self, primitive: Primitive, complete: Callable[[], None]) -> None:
        """Register a primitive; `complete()` is called when its declaration ends, and raises if parts are missing."""
        if primitive.name in self._primitives:
            raise DeclarationError(f"operation {primitive.name!r} is declared twice; an operation is declared once")
        self._primitives[primitive.name] = primitive
        self._pending[primitive.name] = complete

    def add_composite(self, name: str, record: Any) -> None:
        """Register a composite: a plain function of operations with its samples."""
        if name in self._composites:
            raise DeclarationError(f"composite {name!r} is declared twice")
        self._composites[name] = record

    def seal(self) -> None:
        """Complete every pending declaration.

        Raises:
            DeclarationError: an operation lacks a rule or a sample; the message says which and how to add it.
        """
        pending, self._pending = self._pending, {}
        for complete in pending.values():
            complete()

    def __getitem__(self, name: str) -> Primitive:
        return self._primitives[name]

    def __contains__(self, name: str) -> bool:
        return name in self._primitives

    def __iter__(self) -> Iterator[Primitive]:
        return iter(self._primitives.values())

    def __len__(self) -> int:
        return len(self._primitives)

    @property
    def composites(self) -> dict[str, Any]:
        """The composites by name."""
        return self._composites


REGISTRY = Registry()
