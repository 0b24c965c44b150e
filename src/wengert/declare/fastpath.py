"""The eager fast path: one closure per operation, straight for exact Tensors and Python scalars.

These functions are what people feel when they run define-by-run code, so they do in line what `core.dispatch` does in
general: no keyword arguments, no loops, no isinstance, nothing imported. Anything that is not an exact Tensor or a
Python number leaves by one branch: tracers, borrowed Tensors, arrays and lists have no `_data` to read, and asking for
forgiveness is measurably cheaper here than asking for the type.
"""

# The slots of Tensor and the frames of the interpreter are this layer's business.
# pyright: reportPrivateUsage=false

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable
from sys import _getframe
from typing import Any

from ..core import boxing, capturing, native
from ..core.boxing import box
from ..core.dispatch import bind, bind_binary, bind_unary, explain
from ..core.primitive import Primitive
from ..core.recording import is_recording
from ..core.tape import Node, next_sequence

Configure = Callable[[Any], None]

NOTHING, INPUT, OUTPUT, BOTH, CROSSWISE = range(5)
_NO_TRIPLE = (None, None, None)
_NO_PARAMS: dict[str, Any] = {}

Tensor: Any = None


def install(tensor_type: type) -> None:
    """Learn the class of boxed arrays (once); a global of this module is the cheapest place to read it from."""
    global Tensor
    Tensor = tensor_type


class _NoFastPath:
    """Stands in for the class of boxed arrays while a capture is at work somewhere: no Tensor is one, none is made."""

    def __new__(cls) -> Any:
        raise AttributeError(name="_data")


def _close(on: bool) -> None:
    install(_NoFastPath if on else boxing.Tensor)


capturing.on_engaging(_close)


def unary(primitive: Primitive, kernel: Callable[[Any], Any]) -> tuple[Callable[[Any], Any], Configure]:
    """Return the public function of a one-argument operation, and a function that sets what its tape keeps."""
    keeps = NOTHING

    def apply(x: Any) -> Any:
        try:
            data = x._data
            y = Tensor()
        except AttributeError:
            return bind_unary(primitive, x)
        try:
            out = y._data = kernel(data)
        except Exception as error:
            raise explain(primitive.name, (data,), error) from error
        parent = x._node
        if parent is not None and is_recording():
            node = y._node = Node()
            node.primitive = primitive
            node.inputs = (parent,)
            if keeps == INPUT:
                node.saved = (data,)
            elif keeps == OUTPUT:
                node.saved = (out,)
            elif keeps == BOTH:
                node.saved = (data, out)
            else:
                node.saved = ()
            node.shape = parent.shape
            node.dtype = out.dtype
            node.sequence = next_sequence()
            frame = _getframe(1)
            node.code = frame.f_code
            node.instruction = frame.f_lasti
        else:
            y._node = None
        return y

    def configure(mode: int) -> None:
        nonlocal keeps
        keeps = mode

    return apply, configure


def binary(primitive: Primitive, kernel: Callable[[Any, Any], Any]) -> tuple[Callable[[Any, Any], Any], Configure]:
    """Return the public function of a two-argument operation, and a function that sets what its tape keeps.

    What is kept is always the triple (x, y, out), each entry None unless a tracked input's rule names it.
    """
    names = primitive.arguments
    keeps = NOTHING
    for_x: tuple[str, ...] = ()
    for_y: tuple[str, ...] = ()

    def apply(x: Any, y: Any) -> Any:
        kind: Any = type(y)
        try:
            x_data = x._data
            x_node = x._node
            z = Tensor()
        except AttributeError:
            if kind is not Tensor or (type(x) is not float and type(x) is not int):
                return bind_binary(primitive, x, y)
            x_data, x_node = x, None
            z = Tensor()
        if kind is Tensor:
            y_data = y._data
            y_node = y._node
        elif kind is float or kind is int:
            y_data, y_node = y, None
        else:
            return bind_binary(primitive, x, y)
        try:
            out = z._data = kernel(x_data, y_data)
        except Exception as error:
            raise explain(primitive.name, (x_data, y_data), error) from error
        if (x_node is not None or y_node is not None) and is_recording():
            node = z._node = Node()
            node.primitive = primitive
            node.inputs = (x_node, y_node)
            if keeps == NOTHING:
                node.saved = _NO_TRIPLE
            elif keeps == CROSSWISE:
                node.saved = (x_data if y_node is not None else None, y_data if x_node is not None else None, None)
            else:
                needed = (for_x if x_node is not None else ()) + (for_y if y_node is not None else ())
                node.saved = (
                    x_data if names[0] in needed else None,
                    y_data if names[1] in needed else None,
                    out if "out" in needed else None,
                )
            node.shape = out.shape
            node.dtype = out.dtype
            node.sequence = next_sequence()
            frame = _getframe(1)
            node.code = frame.f_code
            node.instruction = frame.f_lasti
        else:
            z._node = None
        return z

    def configure(needs: Any) -> None:
        nonlocal keeps, for_x, for_y
        for_x, for_y = needs
        if for_x or for_y:
            keeps = CROSSWISE if (for_x, for_y) == ((names[1],), (names[0],)) else BOTH

    return apply, configure


_quick: list[tuple[Primitive, Any]] = []


def look_at_sizes_later(primitive: Primitive, function: Any) -> None:
    """Let a function made here look at the sizes of its arguments once the first large array is met."""
    _quick.append((primitive, function))


def _look_at_sizes() -> None:
    for primitive, function in _quick:
        # The closure's cell is replaced: a test in the function itself would cost every call on small arrays.
        cell = function.__closure__[function.__code__.co_freevars.index("kernel")]
        wrap: Any = _by_size if len(primitive.arguments) == 1 else _by_size_of_two
        cell.cell_contents = wrap(primitive, cell.cell_contents)


native.on_engaging(_look_at_sizes)


def _by_size(primitive: Primitive, kernel: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a kernel that leaves large arrays to native code."""
    least = native.least_of(primitive.name)

    def look(x: Any) -> Any:
        if x.size * native.factor >= least and (out := native.computed(primitive, (x,), _NO_PARAMS)) is not None:
            return out
        return kernel(x)

    return look


def _by_size_of_two(primitive: Primitive, kernel: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Do the same for two operands, one of which may be a number."""
    least = native.least_of(primitive.name)

    def look(x: Any, y: Any) -> Any:
        kind: Any = type(x)
        size = 0 if kind is float or kind is int else x.size * native.factor
        if size < least:
            kind = type(y)
            if kind is float or kind is int or y.size * native.factor < least:
                return kernel(x, y)
        out = native.computed(primitive, (x, y), _NO_PARAMS)
        return kernel(x, y) if out is None else out

    return look


def untracked(primitive: Primitive, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Return the public function of a nondifferentiable operation on one or two arrays: a comparison, a predicate."""

    def apply_unary(x: Any) -> Any:
        if type(x) is not Tensor:
            return bind(primitive, (x,))
        try:
            return box(kernel(x._data))
        except Exception as error:
            raise explain(primitive.name, (x._data,), error) from error

    def apply_binary(x: Any, y: Any) -> Any:
        kind: Any = type(y)
        if type(x) is not Tensor or not (kind is Tensor or kind is float or kind is int):
            return bind(primitive, (x, y))
        other = y._data if kind is Tensor else y
        try:
            return box(kernel(x._data, other))
        except Exception as error:
            raise explain(primitive.name, (x._data, other), error) from error

    return apply_unary if len(primitive.arguments) == 1 else apply_binary


def general(primitive: Primitive) -> Callable[..., Any]:
    """Return the public function of any other operation: the general dispatcher, with static parameters by keyword."""

    def apply(*args: Any, **params: Any) -> Any:
        return bind(primitive, args, params)

    return apply


def publish(function: Any, primitive: Primitive, impl: Any) -> Any:
    """Give a built function its operation's name, module, docstring and record."""
    function.__name__ = function.__qualname__ = impl.__name__
    function.__module__ = impl.__module__
    function.__doc__ = impl.__doc__
    function.primitive = primitive
    primitive.call = function
    return function
