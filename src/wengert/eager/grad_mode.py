"""Whether operations are recorded: `no_grad`, `enable_grad`, `set_grad_enabled`.

The state belongs to the thread (and to the task, in asynchronous code). Each of the three is a context manager and a
decorator of functions, generator functions and asynchronous ones; a decorated generator has its own state while it
runs, and whoever iterates over it keeps theirs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import ContextVar
from typing import Any, TypeVar, overload

from ..core.recording import is_recording, set_recording

Function = TypeVar("Function", bound=Callable[..., Any])
Entered = tuple[bool, Any]

# What recording was before each `with` block that this thread or task is in: pairs of the innermost and the others.
# Nothing is kept in the context managers, so that one of them may be entered many times, here and in other threads.
_entered: ContextVar[Entered | None] = ContextVar("wengert_entered", default=None)


class _Mode:
    """A state of recording, for the time of a `with` block or of the calls of a function."""

    __slots__ = ("mode",)

    def __init__(self, mode: bool) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        _entered.set((set_recording(self.mode), _entered.get()))

    def __exit__(self, *_exception: object) -> None:
        entered = _entered.get()
        if entered is not None:
            before, outer = entered
            set_recording(before)
            _entered.set(outer)

    def __call__(self, function: Function) -> Function:
        """Return the decorated function."""
        return _decorated(function, self.mode)

    def __repr__(self) -> str:
        return f"<recording {'on' if self.mode else 'off'}>"


class no_grad(_Mode):
    """Record nothing: what is computed here is a constant, whatever it is computed from.

    As a context manager, `with wg.no_grad():`, or as a decorator, `@wg.no_grad` or `@wg.no_grad()`.

    >>> import wengert as wg
    >>> x = wg.tensor(2.0, requires_grad=True)
    >>> with wg.no_grad():
    ...     y = x * x
    >>> y.requires_grad
    False
    >>> @wg.no_grad
    ... def evaluate(x):
    ...     return x * x
    >>> evaluate(x).requires_grad
    False
    """

    __slots__ = ()

    @overload
    def __new__(cls) -> no_grad: ...
    @overload
    def __new__(cls, function: Function) -> Function: ...
    def __new__(cls, function: Any = None) -> Any:
        """Return a context manager, or the decorated function."""
        return super().__new__(cls) if function is None else _decorated(function, False)

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(_Mode):
    """Record, inside of a `no_grad()` block too.

    As a context manager, `with wg.enable_grad():`, or as a decorator, `@wg.enable_grad` or `@wg.enable_grad()`.

    >>> import wengert as wg
    >>> x = wg.tensor(2.0, requires_grad=True)
    >>> with wg.no_grad(), wg.enable_grad():
    ...     y = x * x
    >>> y.requires_grad
    True
    """

    __slots__ = ()

    @overload
    def __new__(cls) -> enable_grad: ...
    @overload
    def __new__(cls, function: Function) -> Function: ...
    def __new__(cls, function: Any = None) -> Any:
        """Return a context manager, or the decorated function."""
        return super().__new__(cls) if function is None else _decorated(function, True)

    def __init__(self) -> None:
        super().__init__(True)


class set_grad_enabled(_Mode):
    """Switch recording on or off, from now on; in a `with` block or as a decorator, for its time alone.

    >>> import wengert as wg
    >>> with wg.set_grad_enabled(False):
    ...     wg.is_grad_enabled()
    False
    >>> previous = wg.set_grad_enabled(False)
    >>> wg.is_grad_enabled()
    False
    >>> restored = wg.set_grad_enabled(True)
    """

    __slots__ = ("_before",)

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, bool):
            raise TypeError(f"set_grad_enabled takes True or False, not {type(mode).__name__}")
        super().__init__(mode)
        self._before: bool | None = set_recording(mode)

    def __enter__(self) -> None:
        self._withdraw()
        super().__enter__()

    def __call__(self, function: Function) -> Function:
        """Return the decorated function."""
        self._withdraw()
        return super().__call__(function)

    def _withdraw(self) -> None:
        """Undo what the constructor did, now that it shows that a block or a function is meant."""
        if self._before is not None:
            set_recording(self._before)
            self._before = None


def is_grad_enabled() -> bool:
    """Return whether operations on Tensors that require grad are recorded here and now.

    >>> import wengert as wg
    >>> wg.is_grad_enabled()
    True
    """
    return bool(is_recording())


# ---------------------------------------------------------------------- decorated functions


def _decorated(function: Any, mode: bool) -> Any:
    name = "enable_grad" if mode else "no_grad"
    if isinstance(function, type):
        raise TypeError(f"{name} cannot decorate the class {function.__name__}; decorate its methods")
    if not callable(function):
        raise TypeError(f"{name} takes a function to decorate, or nothing, not {type(function).__name__}")
    if inspect.isasyncgenfunction(function):
        wrapper = _asynchronous_generator(function, mode)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, mode)
    elif inspect.iscoroutinefunction(function):
        wrapper = _coroutine(function, mode)
    else:
        wrapper = _plain(function, mode)
    return functools.update_wrapper(wrapper, function)


def _plain(function: Callable[..., Any], mode: bool) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        before = set_recording(mode)
        try:
            return function(*args, **kwargs)
        finally:
            set_recording(before)

    return call


def _generator(function: Callable[..., Any], mode: bool) -> Callable[..., Any]:
    def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return (yield from _in_steps(function(*args, **kwargs), mode))

    return generate


def _coroutine(function: Callable[..., Any], mode: bool) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        return await _Stepwise(function(*args, **kwargs), mode)

    return run


def _asynchronous_generator(function: Callable[..., Any], mode: bool) -> Callable[..., Any]:
    async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        state = _State(mode)
        inner = function(*args, **kwargs)
        try:
            value = await _Stepwise(inner.asend(None), state)
            while True:
                try:
                    sent = yield value
                except GeneratorExit:
                    await _Stepwise(inner.aclose(), state)
                    raise
                except BaseException as error:
                    value = await _Stepwise(inner.athrow(error), state)
                else:
                    value = await _Stepwise(inner.asend(sent), state)
        except StopAsyncIteration:
            return

    return generate


class _State:
    """What holds inside of a generator while it is suspended: the mode, and the blocks that it is in."""

    __slots__ = ("entered", "mode")

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self.entered: Entered | None = None

    def exchange(self) -> None:
        """Exchange what holds here for what holds in the running code."""
        entered = _entered.get()
        _entered.set(self.entered)
        self.entered = entered
        self.mode = set_recording(self.mode)


class _Stepwise:
    """Awaits something with a state of recording that holds while it runs, and not while it is suspended."""

    __slots__ = ("awaited", "state")

    def __init__(self, awaited: Any, state: _State | bool) -> None:
        self.awaited = awaited
        self.state = state

    def __await__(self) -> Generator[Any, Any, Any]:
        return _in_steps(self.awaited.__await__(), self.state)


def _in_steps(inner: Any, state: _State | bool) -> Generator[Any, Any, Any]:
    """Run a generator (or what an awaitable gives to its event loop) in a state of recording of its own."""
    own = state if isinstance(state, _State) else _State(state)
    step, argument = inner.send, None
    while True:
        own.exchange()
        try:
            value = step(argument)
        except StopIteration as stop:
            return stop.value
        finally:
            own.exchange()
        try:
            argument = yield value
            step = inner.send
        except GeneratorExit:
            own.exchange()
            try:
                inner.close()
            finally:
                own.exchange()
            raise
        except BaseException as error:
            step, argument = inner.throw, error


__all__ = ["enable_grad", "is_grad_enabled", "no_grad", "set_grad_enabled"]
