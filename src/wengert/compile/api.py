"""`wg.compile`: a function as it is, run once to see what it does, and from then on as native code."""

# The slots of Tensor are read here.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import functools
import inspect
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import is_
from time import perf_counter
from types import MethodType
from typing import Any

import numpy as np

from ..config import settings
from ..core import boxing, capturing
from ..core.pytree import flatten
from ..core.recording import is_recording
from ..core.streams import rewind, states
from ..core.tracing import open_traces, outside_of_traces
from . import printing as _printing  # noqa: F401 - teaches print what a run is
from .backends import CompileWarning, load, warm_up
from .binding import UNBOUND
from .capture import CaptureTrace
from .collector import waiting_collector
from .derivative import Again, derive
from .effects import planned, survey, undo
from .explanation import Explanation, ProgramReport, merged, reason_for_length
from .gate import gate
from .inside import Inside
from .kinds import kind_of, repeated, shown
from .outside import Outside
from .paths import Path
from .precision import is_narrow
from .reach import Reach
from .repeat import Repeat, repeat_of
from .results import Lent, Result
from .sources import ArgumentSource, Changed, CompileError, Unfit, Unsure
from .ties import broken
from .variants import Variants, changes_too_often

_MOST_UNSETTLED = 2
"""Runs in a row that may leave new Tensors behind before a function is run as it is."""
_MOST_KINDS = 256
"""Kinds of arguments that a function has programs for; of more, what was not called for the longest time goes."""


class Compiled:
    """A function that runs as native code; made by `wg.compile`.

    Attributes:
        function: the function as it was written.
    """

    stands_for = "function"

    def __init__(
        self,
        function: Callable[..., Any],
        explain: bool = False,
        fastmath: bool = False,
        narrow: bool = False,
        pure: bool = False,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self._paths: OrderedDict[Any, list[Path]] = OrderedDict()
        self._kept: dict[Any, list[Any]] = {}
        self._dropped = 0
        self._unsettled = 0
        self._given_up = ""
        self._explaining = explain
        self._fastmath = fastmath
        self._narrow = narrow
        self._repeat: Repeat | None = None
        self._unsure = 0
        self._variants = Variants()
        self._pure = pure
        self._inside: Inside | None = None
        self._reports: list[tuple[ProgramReport, Path]] = []

    def __repr__(self) -> str:
        count = sum([len(paths) for paths in self._paths.values()])
        return f"<compiled {self._name}: {count} program{'' if count == 1 else 's'}>"

    def __getattr__(self, name: str) -> Any:
        """Look for what a compiled Module is asked for on the Module: `parameters()`, `train()`, its layers."""
        if name.startswith("__") or "function" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.function, name)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    @property
    def _name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program for such arguments; the first call with arguments of a kind makes it."""
        repeat = self._repeat
        if repeat is not None:
            try:
                answer = repeat.run(args, kwargs)
            except Unsure:
                self._unsure += 1
                return self.function(*args, **kwargs)
            if answer is not UNBOUND:
                return answer
        if self._given_up or capturing.current() is not None:
            return self._as_it_is(args, kwargs)
        if open_traces():
            return self._called_inside(args, kwargs)
        leaves, structure = flatten((args, kwargs))
        kinds = [kind_of(leaf) for leaf in leaves]
        key = (structure, is_recording(), settings.default_dtype, repeated(leaves), *kinds)
        paths = self._paths.get(key)
        past = None
        reason = ""
        unsure = False
        if paths:
            if not gate.enter():
                return self._as_it_is(args, kwargs)
            with suppress(KeyError):  # another thread has just dropped it
                self._paths.move_to_end(key)
            try:
                for path in list(paths):
                    if path.draws and past is None:
                        past = states()
                    try:
                        answer = path.run(leaves)
                        self._repeat = repeat_of(path, args, kwargs, leaves)
                        return answer
                    except Changed as changed:
                        reason = reason or str(changed)
                        if path.draws and past is not None:
                            rewind(past)
                    except Unsure:
                        if path.draws and past is not None:
                            rewind(past)
                        unsure = True
                        break
            finally:
                gate.leave()
        if unsure:
            self._unsure += 1
            return self.function(*args, **kwargs)
        if self._is_endless(key) or not gate.close():
            return self._as_it_is(args, kwargs)
        try:
            with waiting_collector():
                return self._captured(key, leaves, structure, (args, kwargs), reason)
        finally:
            gate.open()

    def _as_it_is(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the function as it was written, if it may do more than to compute."""
        if self._pure:
            raise Unfit
        return self.function(*args, **kwargs)

    def _compiled(self, function: Callable[..., Any]) -> Compiled:
        """Compile a part of what this function is asked for, in its manner."""
        return Compiled(function, fastmath=self._fastmath, narrow=self._narrow, pure=True)

    def _called_inside(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run inside of a transform: as one operation, of which the transform has its own program."""
        traced = any([type(leaf) is boxing.Tracer for leaf in flatten((args, kwargs))[0]])
        if self._pure and not traced:
            with outside_of_traces():
                return self(*args, **kwargs)
        if self._inside is None:
            self._inside = Inside(self.function, self._compiled)
        past = states()
        try:
            return self._inside.call(args, kwargs)
        except Unfit:
            rewind(past)  # what was drawn is drawn again
            if self._pure:
                raise
            return self.function(*args, **kwargs)

    def _is_endless(self, key: Any) -> bool:
        """Return whether a program for such arguments would be one of many that are not called again."""
        reason = self._variants.reason_against(key, self._paths)
        if reason:
            message = f"wg.compile({self._name}): run as it is for such arguments from now on: {reason}"
            warnings.warn(message, CompileWarning, stacklevel=3)
        return reason is not None

    def _captured(self, key: Any, leaves: list[Any], structure: Any, given: Any, change: str) -> Any:
        """Run the function as it is, and keep what it does as a program."""
        warm_up()
        objects = [leaf for leaf in leaves if not isinstance(leaf, (boxing.Tensor, np.ndarray))]
        self._kept.setdefault(key, []).extend(objects)  # keys have their ids
        reach = Reach([self.function, *objects])
        try:
            return self._captured_from(reach, key, leaves, structure, given, change)
        except BaseException:
            if self._pure:
                reach.put_back()  # as it was written it will run from where it began
            raise

    def _captured_from(self, reach: Reach, key: Any, leaves: list[Any], structure: Any, given: Any, change: str) -> Any:
        """Do so, with what the function can reach as it was before."""
        paths = self._paths.setdefault(key, [])
        if often := changes_too_often(paths):
            self._give_up(often)
            return _called(self.function, leaves, structure)
        if self._pure and any([type(tensor) is boxing.Tracer for tensor in reach.tensors.values()]):
            raise Unfit
        passed = [boxing.borrow(leaf) if type(leaf) is np.ndarray else leaf for leaf in leaves]
        shared = [place for place, leaf in enumerate(leaves) if id(leaf) in reach.tensors]
        arguments = [None if place in shared else leaf for place, leaf in enumerate(passed)]
        trace = CaptureTrace(self._name, arguments, self._fastmath, reach.tensors)
        outside, past = Outside(reach.names), states()
        run = functools.partial(outside.run, _run, trace, self.function, passed, structure, given)
        returned, derivative = trace.run(run)
        reason = _deed_in(trace) or outside.reason() or reach.unsteady()
        try:
            effects = survey(trace, returned)
            _refuse_writes(effects.writes, leaves, self._name)
        finally:
            undo(trace)
        form, plans = returned.structure, [_copied_if_fresh(plan, reach) for plan in returned.plans]
        used = [b.tensor for b in trace.brought if not b.fresh]
        del returned, passed
        path = Path(trace, plans, form, effects, derivative, Again(self._compiled))
        if self._pure and (path.draws or path.reports or any(effects)):
            rewind(past)
            raise Unfit
        reason = reason or _altered(leaves, structure, given)
        places = trace.leaks(leaves)
        ties = reach.ties(used, [array for array, _ in trace.states])
        change_here = broken(ties)
        if places or change_here:
            # What is kept from now on (say, parameters that were made in the first run) is there in the next.
            self._unsettled += 1
            if self._unsettled > _MOST_UNSETTLED:
                reason = reason or _consequence(places, change_here)
        if reason or places or change_here:
            if reason:
                self._give_up(reason)
            return self._sure(path.redo, (leaves,), past, leaves, structure)
        self._unsettled = 0
        path.tie(ties)
        path.same = [(place, leaves[place]) for place in shared]
        path.watch_arguments(leaves, reach.tensors.values())
        captured = perf_counter()
        self._prepare(path, trace)
        paths.insert(0, path)
        self._make_room()
        why = self._why(key, change) if len(paths) == 1 else f"another program changed in {change or 'what it does'}"
        self._note(why, leaves, path, (captured - reach.since, perf_counter() - captured))
        raws, path.raws = path.raws, {}
        try:
            return self._sure(path.run, (leaves, raws), past, leaves, structure)
        finally:
            if self._explaining:
                self._tell()

    def _prepare(self, path: Path, trace: CaptureTrace) -> None:
        if length := reason_for_length(trace.equations):
            warnings.warn(f"wg.compile({self._name}): {length}", CompileWarning, stacklevel=5)
        path.prepare(self._narrow)

    def _sure(self, run: Callable[..., Any], args: Any, past: Any, leaves: list[Any], structure: Any) -> Any:
        """Run a program that was just made; where it is not made for these values, the function itself."""
        try:
            return run(*args)
        except Unsure:
            self._unsure += 1
            rewind(past)
            return _called(self.function, leaves, structure)

    def _make_room(self) -> None:
        """Drop the programs for arguments that were not met for the longest time, if there are too many kinds."""
        while len(self._paths) > _MOST_KINDS:
            if self._repeat is not None and self._repeat.path in next(iter(self._paths.values())):
                self._paths.move_to_end(next(iter(self._paths)))  # calls that are repeated aren't told of
                continue
            key, paths = self._paths.popitem(last=False)
            self._kept.pop(key, None)
            self._reports = [(report, path) for report, path in self._reports if path not in paths]
            if not self._dropped:
                message = (
                    f"wg.compile({self._name}): it was called with arguments of more than {_MOST_KINDS} kinds, shapes "
                    "for most; programs that were not called for the longest time are dropped, and made again if "
                    "they are. Fewer shapes (padding, say) take fewer programs"
                )
                warnings.warn(message, CompileWarning, stacklevel=5)
            self._dropped += len(paths)

    def _why(self, key: Any, change: str) -> str:
        """Return why a first program for arguments of a kind was made."""
        return "the first call" if len(self._paths) == 1 else "the first call with arguments of this kind"

    def _note(self, why: str, leaves: Sequence[Any], path: Path, seconds: tuple[float, float]) -> None:
        report = ProgramReport(
            number=self._dropped + len(self._reports) + 1,
            reason=why,
            arguments=", ".join([shown(leaf) for leaf in leaves]),
            operations=path.operations,
            capture_seconds=seconds[0],
            compile_seconds=seconds[1],
            questions=path.answers(),
        )
        self._reports.append((report, path))
        if self._explaining:
            path.time_next_run()

    def _tell(self) -> None:
        """Report the newest program."""
        report, path = self._reports[-1]
        report.kernels = merged(path.kernels())
        sys.stderr.write(f"compile({self._name}): {report}\n")

    def explain(self) -> Explanation:
        """Return what this function consists of: programs, why each was made, kernels, bytes; printed, it is a report.

        Times of kernels are of the last run whose kernels were timed: with `explain=True`, the first one after each
        program was made; afterwards, ask `explain()` and the next run will be.
        """
        for report, path in self._reports:
            report.kernels = merged(path.kernels())
            path.time_next_run()
        notes = ["products and convolutions: factors rounded to bfloat16 where that is faster"] if self._narrow else []
        if self._given_up:
            notes.append(f"run as it is: {self._given_up}")
        if self._dropped:
            notes.append(f"{self._dropped} programs were dropped: there are more than {_MOST_KINDS} kinds of arguments")
        if self._unsure:
            notes.append(
                f"{self._unsure} runs were left to the function itself, since values were not finite that gradients "
                "depend on"
            )
        return Explanation(self._name, [report for report, _ in self._reports], notes)

    def _give_up(self, reason: str) -> None:
        self._given_up = reason
        warnings.warn(f"wg.compile({self._name}): run as it is from now on: {reason}", CompileWarning, stacklevel=5)


def _deed_in(trace: CaptureTrace) -> str:
    """Return why a function that was captured cannot be compiled, since it does what only Python can; or nothing."""
    return f"it {trace.deeds[0]}, which a compiled function does not do again. Do it outside" if trace.deeds else ""


def _consequence(places: list[str], change: str) -> str:
    """Say why a function that leaves something behind in every run cannot be compiled."""
    if places:
        return (
            f"{places[0]} is kept somewhere, in an attribute, a global or a list, where later runs would not bring it "
            "up to date. Return it, or write it with copy_() into a Tensor that stays"
        )
    return (
        f"it changes {change} in every run, and a compiled function does not run its Python code again. Keep such "
        "things in Tensors, or do them outside"
    )


def _run(trace: CaptureTrace, function: Callable[..., Any], leaves: Sequence[Any], structure: Any, given: Any) -> Any:
    lends = any([type(leaf) is boxing.BorrowedTensor for leaf in leaves])
    args, kwargs = structure.unflatten(leaves) if lends else given
    result = function(*args, **kwargs)
    if lends and (reason := _altered(leaves, structure, (args, kwargs))):
        raise CompileError(f"wg.compile({trace.described}): {reason}, or pass Tensors in place of NumPy's arrays")
    returned = planned(trace, result)
    return returned, derive(trace, returned)


def _altered(leaves: Sequence[Any], structure: Any, given: Any) -> str:
    """Return what a function did to the lists and dicts that it was given, or nothing."""
    now, form = flatten(given)
    if form == structure and len(now) == len(leaves) and all(map(is_, now, leaves)):
        return ""
    return (
        "it changes a list, a dict or another container that it is given, which a compiled function does not. Return "
        "what is new"
    )


def _called(function: Callable[..., Any], leaves: Sequence[Any], structure: Any) -> Any:
    args, kwargs = structure.unflatten(leaves)
    return function(*args, **kwargs)


def _refuse_writes(writes: Sequence[Any], leaves: Sequence[Any], name: str) -> None:
    for source, _ in writes:
        if type(source) is ArgumentSource and type(leaves[source.place]) is np.ndarray:
            raise CompileError(
                f"wg.compile({name}): it writes to a NumPy array that it is given, which a compiled function sees as a "
                "Tensor of its own. Pass a Tensor, or return the new values"
            )


def _copied_if_fresh(plan: Result, reach: Reach) -> Result:
    """Let an array that the function has made, and what lies in it, be another one in every run."""
    lender = plan.what.base if plan.kind == "view" else plan.what
    if type(lender) is Lent:
        lender.is_shared = _is_of_outside(lender.array, reach)
    fresh = plan.kind == "object" and type(plan.what) is np.ndarray and id(plan.what) not in reach.arrays
    return Result("copy", plan.what) if fresh else plan


def _is_of_outside(array: np.ndarray, reach: Reach) -> bool:
    """Return whether an array lies in the memory of one that the function can reach."""
    owner = _owner_of(array)
    return any([_owner_of(known) is owner for known in reach.arrays.values()])


def _owner_of(array: Any) -> Any:
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return array


def compile(
    function: Callable[..., Any] | None = None,
    *,
    explain: bool = False,
    fastmath: bool = False,
    compute_dtype: Any = None,
) -> Any:
    """Return a function that does the same as native code.

    The function is run once to see what it does; what it did is compiled and run from then on, for arguments of the
    same shapes, dtypes and Python values. Tensors that it closes over are inputs: parameters, gradients and
    optimisers' state are read and written in every run, and random numbers drawn. A branch on a boolean or an integer
    that it computes is a path of its own. What cannot be compiled faithfully is refused, or run as it is after one
    warning. Inside of another transform it is one operation, with programs for its tangents, cotangents and examples,
    if it does nothing but compute; inside of another compiled function it is a part of that.

    Args:
        function: any function of Tensors, arrays and other objects, in any nesting; a method; a Module. Without it, a
            decorator is returned.
        explain: report each program to standard error when it is made; see `explain()` of what is returned.
        fastmath: leave out what makes an exact zero win over infinity and NaN, in derivatives: a masked-out element may
            then spoil a gradient. Nothing else changes results beyond rounding.
        compute_dtype: `wg.bfloat16`: factors of a program's larger matrix products and convolutions are rounded to it.
            Sums, and all else, stay of float32: parameters, their updates, what branches ask. None, or float32: nothing
            is rounded.

    Returns:
        A function that also has `explain()`; of a Module, its attributes and methods, too.

    Raises:
        TypeError: it cannot be called, or there are no products of that dtype.
        CompileError: (here) it is a generator function or an asynchronous one; (when it is called) it asks for a value
            that is known only when the program runs, or does to Tensors of outside what programs cannot.

    >>> import wengert as wg
    >>> w = wg.tensor([1.0, -1.0], requires_grad=True)
    >>> optimizer = wg.optim.SGD([w], lr=0.25)
    >>> @wg.compile
    ... def step(x):
    ...     optimizer.zero_grad()
    ...     loss = wg.sum((w * x) ** 2)
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> [step(wg.ones(2)).item() for _ in range(3)]
    [2.0, 0.5, 0.125]
    """
    narrow = is_narrow(compute_dtype)
    if function is None:
        return functools.partial(compile, explain=explain, fastmath=fastmath, compute_dtype=compute_dtype)
    if not callable(function):
        raise TypeError(f"compile takes a function, not {type(function).__name__}")
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise CompileError(f"compile: the body of {function.__name__} runs after the call has returned; compile parts")
    load()
    return Compiled(function, explain, fastmath, narrow)
