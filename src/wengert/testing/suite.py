"""The list of checks, which of them an operation is subject to, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..core.primitive import BILINEAR, ELEMENTWISE, NONDIFFERENTIABLE, OPAQUE, REDUCTION, Primitive
from . import checks, masking, structure, transformed
from .samples import Case, cases


class Check:
    """One check.

    Attributes:
        name: the word that test ids and messages use.
        function: `function(record, case)`, or `function(record)` where `once`; raises AssertionError.
        once: it finds its own calls.
        of_primitives: it needs rules, which a composite has not.
        of_derivatives: it needs a derivative, which a nondifferentiable operation has not.
        kinds: the kinds of operation that it is about (all if empty).
    """

    __slots__ = ("function", "kinds", "name", "of_derivatives", "of_primitives", "once")

    def __init__(
        self,
        name: str,
        function: Callable[..., None],
        *,
        once: bool = False,
        of_primitives: bool = False,
        of_derivatives: bool = True,
        kinds: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.function = function
        self.once = once
        self.of_primitives = of_primitives
        self.of_derivatives = of_derivatives
        self.kinds = kinds

    def applies_to(self, record: Any) -> bool:
        """Return whether an operation is subject to this check."""
        if not isinstance(record, Primitive):
            return not self.of_primitives and (self.function is not masking.special or bool(record.special))
        if record.kind == NONDIFFERENTIABLE and self.of_derivatives:
            return False
        if self.kinds and record.kind not in self.kinds:
            return False
        return self.function is not masking.special or bool(record.special)


CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        Check("forward", checks.forward, of_derivatives=False),
        Check("jvp", checks.jvp, of_primitives=True),
        Check("adjoint", checks.adjoint),
        Check("second", checks.second_order),
        Check("dtypes", checks.dtypes),
        Check("subsets", structure.subsets),
        Check("modes", structure.modes, of_primitives=True),
        Check("zeros", structure.zeros, of_primitives=True, of_derivatives=False),
        Check("batch", structure.batch, of_primitives=True, of_derivatives=False),
        Check("memory", structure.memory, of_derivatives=False),
        Check("empty", structure.empty, of_derivatives=False),
        Check("residuals", structure.residuals, of_primitives=True),
        Check("special", masking.special, once=True, of_derivatives=False),
        Check("pushed", transformed.pushed),
        Check("mapped", transformed.mapped, of_derivatives=False),
        Check("nested", transformed.nested),
        Check("mapped-derivatives", transformed.mapped_derivatives),
        Check("precision", transformed.lower_precision),
        Check("masked", masking.masked, of_primitives=True, kinds=(ELEMENTWISE, REDUCTION, BILINEAR, OPAQUE)),
    )
}


def checks_of(record: Any) -> list[str]:
    """Return the names of the checks that a primitive or composite is subject to."""
    return [name for name, check in CHECKS.items() if check.applies_to(record)]


def run_check(record: Any, name: str) -> None:
    """Run one check on every call of a primitive or composite.

    Raises:
        AssertionError: naming the operation, the call and both numbers; an error that a rule raised is its cause.
    """
    check = CHECKS[name]
    with np.errstate(all="ignore"):
        for case in [None] if check.once else cases(record):
            _run(check, record, case)
            if check.of_derivatives and getattr(record, "pull_in_place", None) is not None:
                with _without_writes(record):
                    _run(check, record, case)


@contextmanager
def _without_writes(primitive: Primitive) -> Iterator[None]:
    """Let differentiable sweeps use the rule alone, as they do on tracers, and not what is cheaper on Tensors."""
    in_place, primitive.pull_in_place = primitive.pull_in_place, None
    try:
        yield
    finally:
        primitive.pull_in_place = in_place


def _run(check: Check, record: Any, case: Case | None) -> None:
    try:
        check.function(record) if case is None else check.function(record, case)
    except AssertionError as failure:
        raise AssertionError(f"[{check.name}] {failure}") from failure.__cause__
    except Exception as error:
        where = record.name if case is None else checks.place(record, case)
        raise AssertionError(f"[{check.name}] {where}: {type(error).__name__}: {error}") from error


def check_rule(operation: Any, names: Iterable[str] | None = None) -> None:
    """Check one operation in every way that applies to it, or in the named ways.

    Args:
        operation: a primitive, a composite's record, or the public function of a primitive.
        names: names of checks, such as `"adjoint"` or `"batch"` (see `wengert.testing.CHECKS`).

    Raises:
        AssertionError: the first check that fails, with the operation, the call and both numbers.

    >>> import wengert as wg
    >>> wg.testing.check_rule(wg.sin)
    """
    record = getattr(operation, "primitive", operation)
    for name in checks_of(record) if names is None else names:
        run_check(record, name)


__all__ = ["CHECKS", "Check", "check_rule", "checks_of", "run_check"]
