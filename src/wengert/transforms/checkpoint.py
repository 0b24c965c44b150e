"""`checkpoint`: memory for time. What a function would keep for its derivative is computed again when it is needed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ..core import capturing
from ..core.recording import is_recording
from ..core.streams import is_stream
from .segment import Run, Segment


def checkpoint(
    function: Callable[..., Any] | None = None,
    *arguments: Any,
    preserve_random_state: bool = True,
    generators: Sequence[Any] = (),
    check_values: bool = True,
) -> Callable[..., Any]:
    """Return a function that computes the same, and keeps only its arguments, not what its derivative needs.

    That is computed by running the function again when a sweep gets there, once for each sweep. Checkpointing the
    layers of a deep network so makes its memory grow with the inputs of the layers alone, for about one more forward
    pass. It nests in itself and in every other transform, and gradients of any order are what they are without it.

    Both runs must do the same. Operations, shapes, dtypes and (by fingerprints of all bits) the values of residuals are
    compared, so that a function that depends on something that has changed is an error, never a wrong gradient.
    Arguments are seen as they were at the call, also if they are written to later, and the function may write to them;
    it may not write to other Tensors on the tape. What else it does outside (counting, printing, running statistics) it
    does twice. Under `no_grad()` it is simply called.

    Args:
        function: takes and returns any nesting of Tensors and anything else. Without it, a decorator is returned.
        preserve_random_state: let the second run draw the same numbers from `wg.random`'s default generator, and from
            generators among the arguments. NumPy's global generator is not looked after.
        generators: other generators that it draws from, of `wg.random.Generator` or `numpy.random.Generator`.
        check_values: compare values, not only operations, shapes and dtypes. Leave it on unless the function's rounding
            differs from run to run.

    Raises:
        RecomputationError: (from the sweep) the second run did something else; the message names operation and lines.
        GradientError: the function writes to a Tensor on the tape that is not an argument.
        TypeError: arguments of the call were given here (write `wg.checkpoint(f)(x)`, not `wg.checkpoint(f, x)`), or it
            is a generator function or an asynchronous one.

    >>> import wengert as wg
    >>> @wg.checkpoint
    ... def layer(x, w):
    ...     return wg.tanh(x @ w)
    >>> x, w = wg.ones((2, 3)), wg.ones((3, 3)).requires_grad_()
    >>> wg.sum(layer(layer(x, w), w)).backward()
    >>> w.grad.shape
    (3, 3)
    """
    if arguments:
        raise TypeError(
            f"checkpoint takes a function and returns one, as wg.grad does: write checkpoint(f)(...) for the "
            f"{len(arguments)} further arguments, not checkpoint(f, ...)"
        )
    if function is None:
        return functools.partial(
            checkpoint,
            preserve_random_state=preserve_random_state,
            generators=generators,
            check_values=check_values,
        )
    if not callable(function):
        raise TypeError(f"checkpoint takes a function, not {type(function).__name__}")
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise TypeError(
            f"checkpoint: the body of {function.__name__} runs after the call has returned, so that nothing would be "
            "dropped; checkpoint the functions that it calls"
        )
    _check_generators(generators)
    called: Callable[..., Any] = function

    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        if not is_recording():
            return called(*args, **kwargs)
        if capturing.is_in_step() and (capture := capturing.current()) is not None:
            return capture.done_again(functools.partial(called, *args, **kwargs))
        segment = Segment(Run(called, args, kwargs), preserve_random_state, generators, check_values)
        return segment.run(args, kwargs)

    functools.update_wrapper(checkpointed, called, updated=())
    return checkpointed


def _check_generators(generators: Sequence[Any]) -> None:
    for generator in generators:
        if not is_stream(generator):
            raise TypeError(
                f"checkpoint: generators must be of wg.random.Generator or numpy.random.Generator, not "
                f"{type(generator).__name__}"
            )


__all__ = ["checkpoint"]
