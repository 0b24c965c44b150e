"""The seam between eager code and a capture of it, by which the compiler sees every operation of a function.

While a capture is at work in a thread (or task), everything that touches the values of a Tensor there goes through it:
operations come to the general dispatcher, which hands their arguments to the capture first; writes, random numbers and
values that Python asks for ask here. The rest of the time nothing of this costs anything but, off the fast path, the
test of one flag. What a capture does is the compiler's business, which stands above.
"""

# The slots of Tensor are this layer's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..typing import Shape
from . import boxing, recording


class Capture:
    """What the seam asks of a capture."""

    def arguments(self, args: tuple[Any, ...], name: str) -> tuple[Any, ...]:
        """Return the arguments of an operation, with tracers in place of everything that has a value of its own."""
        raise NotImplementedError

    def bring(self, tensor: Any) -> None:
        """Make a Tensor a tracer of the capture, in place, until it ends."""
        raise NotImplementedError

    def array(self, array: np.ndarray) -> Any:
        """Return a tracer for an array of NumPy's, which is read anew in every run."""
        raise NotImplementedError

    def drawn(self, draw: Callable[[Shape], np.ndarray], shape: Shape) -> Any:
        """Return a tracer for random numbers, which are drawn anew in every run."""
        raise NotImplementedError

    def made(self, tensor: Any) -> None:
        """Take note of a Tensor that is being made now."""
        raise NotImplementedError

    def read_gradient(self, tensor: Any, gradient: Any) -> None:
        """Take note that the `.grad` of a Tensor is read."""
        raise NotImplementedError

    def origin(self, tensor: Any, question: Callable[[Any], Any]) -> Any:
        """Return the Node by which to answer a question about where a Tensor comes from."""
        raise NotImplementedError

    def set_gradient(self, tensor: Any) -> None:
        """Take note that the `.grad` of a Tensor is set."""
        raise NotImplementedError

    def note_observers(self) -> None:
        """Take note that it matters who would differentiate what is computed."""
        raise NotImplementedError

    def note_written(self, base: Any) -> None:
        """Take note that the memory of a Tensor is written."""
        raise NotImplementedError

    def update(self, tensors: Sequence[Any], update: Callable[[list[Any]], None]) -> None:
        """Let `update` change the values of Tensors off the tape, as `core.updating.update_buffers` does."""
        raise NotImplementedError

    def check(
        self, tensor: Any, check: Callable[[np.ndarray], None], passes: Callable[[Any], Any] | None = None
    ) -> None:
        """Have `check(values)` called for a tracer now, and before every run: it raises if they will not do."""
        raise NotImplementedError

    def report(self, say: Callable[..., None], tensors: Sequence[Any]) -> None:
        """Have `say(*tensors)` called after this run and every other, with the values that tracers then have."""
        raise NotImplementedError

    def unrepeatable(self, deed: str) -> None:
        """Take note that the function does something that only its Python code can do again; `deed` says what."""
        raise NotImplementedError

    def expect_finite(self, tensors: Sequence[Any]) -> None:
        """Let a program count only if these tracers are finite: where they aren't, the function itself is run."""
        raise NotImplementedError

    def guard_was_left_out(self, factor: Any) -> None:
        """Take note that a product with a factor was not guarded in a sweep: the factor must be finite, or its end."""
        raise NotImplementedError

    def begin_of_sweep(self, outputs: Sequence[Any], targets: Sequence[Any]) -> None:
        """Take note that a sweep is to go from the Nodes of outputs to those of targets alone."""
        raise NotImplementedError

    def end_of_sweep(self, cotangents: Sequence[Any]) -> None:
        """Take note of the cotangents that a sweep ends with."""
        raise NotImplementedError

    def follows(self, tensor: Any) -> bool:
        """Return whether a Tensor is a tracer of this capture."""
        raise NotImplementedError

    def loop(self, loop: Any) -> tuple[list[Any], list[Any]] | None:
        """Run a loop as one; return what it carries in the end and what it emits, or None: it is to be run by steps."""
        raise NotImplementedError

    def is_in_step(self) -> bool:
        """Return whether what is done now stands for every step of a loop."""
        raise NotImplementedError

    def done_again(self, run: Callable[[], Any]) -> Any:
        """Return what `run()` returns, in a step; a sweep rather does it again than to have what it needs kept."""
        raise NotImplementedError

    def try_steps(self, loop: Any, run: Callable[[], Any]) -> Any:
        """Return what `run()` returns, which runs steps of a loop; None if one cannot stand for all."""
        raise NotImplementedError

    def steps(
        self, step: Callable[..., Any], init: Sequence[Any], xs: Sequence[Any], name: str
    ) -> tuple[list[Any], list[Any]] | None:
        """Do the same for an operation: `step(carried, read)` returns what is carried on and what is emitted."""
        raise NotImplementedError


engaged: int = 0
"""How many captures are at work in all threads."""

_current: ContextVar[Capture | None] = ContextVar("wengert_capture", default=None)
_lock = threading.Lock()
_switches: list[Callable[[bool], None]] = []

current: Callable[[], Capture | None] = _current.get
"""The capture that is at work in this thread (or task), or None."""


def _no_loop(_capture: Any, _loop: Any) -> None:
    return None


loop_inside: Callable[[Any, Any], Any] = _no_loop
"""Has a capture make one loop of a loop on values of transforms further in, or returns None; these set it."""


def on_engaging(switch: Callable[[bool], None]) -> None:
    """Have `switch(True)` called when the first capture of the process begins, `switch(False)` when the last ends."""
    _switches.append(switch)


def begin(capture: Capture) -> None:
    """Put a capture to work in this thread (or task)."""
    global engaged
    with _lock:
        engaged += 1
        if engaged == 1:
            for switch in _switches:
                switch(True)
    _current.set(capture)


def end() -> None:
    """End what `begin` began."""
    global engaged
    _current.set(None)
    with _lock:
        engaged -= 1
        if not engaged:
            for switch in _switches:
                switch(False)


def suspend() -> Capture | None:
    """Let the capture of this thread see nothing until `resume`."""
    capture = _current.get()
    _current.set(None)
    return capture


def resume(capture: Capture | None) -> None:
    """Go on with what `suspend` returned."""
    _current.set(capture)


def bring(tensor: Any) -> None:
    """Make a Tensor a tracer, if a capture is at work here and it is none yet."""
    capture = _current.get()
    if capture is not None and type(tensor) is not boxing.Tracer:
        capture.bring(tensor)


def as_read(tensor: Any) -> Any:
    """Return a Tensor whose value is read, or what stands for it where a capture is at work here."""
    capture = _current.get()
    if capture is None:
        return tensor
    (tensor,) = capture.arguments((tensor,), "a value that is read")
    return tensor


def raw_of(tensor: Any) -> Any:
    """Return the raw array of an exact Tensor; where a capture is at work, Python is told by the tracer what it may."""
    if _current.get() is None:
        return tensor._data
    bring(tensor)
    return tensor._raw()


def note_unrepeatable(deed: str) -> None:
    """Let no function be compiled that does such a thing; `deed` says what it does."""
    capture = _current.get()
    if capture is not None:
        capture.unrepeatable(deed)


def examine(tensor: Any, check: Callable[[np.ndarray], None], passes: Callable[[Any], Any] | None = None) -> None:
    """Call `check` with the plain values of a Tensor of any level; in a compiled function, in every run.

    `passes` computes from a Tensor of such values whether they pass: then a program sees to it by itself.
    """
    innermost = _innermost_part(tensor)
    capture = _current.get()
    if capture is None:
        check(boxing.data_of(innermost) if isinstance(innermost, boxing.Tensor) else innermost)
    elif isinstance(innermost, boxing.Tensor):
        (innermost,) = capture.arguments((innermost,), "a check")
        capture.check(innermost, check, passes)
    else:
        check(innermost)


def is_observed() -> bool:
    """Return whether somebody would differentiate what is computed now; a compiled function has a program for each."""
    if engaged and (capture := _current.get()) is not None:
        capture.note_observers()
    return recording.is_observed()


def told(tensor: Any, question: Callable[[Any], Any]) -> Any:
    """Return the answer to a question about a Tensor's Node; before another run it is asked again."""
    capture = _current.get()
    return question(tensor._node if capture is None else capture.origin(tensor, question))


def is_in_step() -> bool:
    """Return whether what is done now stands for every step of a loop that a capture makes one of."""
    return bool(engaged) and (capture := _current.get()) is not None and capture.is_in_step()


def any_holds(tensor: Any) -> bool:
    """Return whether any of the plain values of a boolean Tensor of any level is true, for Python to branch on."""
    innermost = _innermost_part(tensor)
    if _current.get() is not None:
        return bool(boxing.operations.any(innermost))
    return bool(np.any(boxing.data_of(innermost)))


def parts_followed(tensor: Any) -> list[Any]:
    """Return the Tensors of the capture that is at work here that a Tensor of any level is made of."""
    if type(tensor) is not boxing.Tracer or _current.get().follows(tensor):  # type: ignore[union-attr]
        return [tensor] if type(tensor) is boxing.Tracer else []
    return [inner for part in tensor._state.parts() for inner in parts_followed(part)]


def _innermost_part(value: Any) -> Any:
    capture = _current.get()
    while type(value) is boxing.Tracer and not (capture is not None and capture.follows(value)):
        value = value._state.parts()[0]
    return value


def array_as_tensor(array: Any) -> Any:
    """Return a tracer for an array that a Tensor is to be made of, or None: no capture is at work here."""
    capture = _current.get()
    return None if capture is None or type(array) is not np.ndarray else capture.array(array)


def _note_new(tensor: Any) -> None:
    capture = _current.get()
    if capture is not None and type(tensor) is boxing.Tensor:
        capture.made(tensor)


def _watch_new_tensors(on: bool) -> None:
    if on:
        boxing.Tensor.__init__ = _note_new
    else:
        del boxing.Tensor.__init__


on_engaging(_watch_new_tensors)
