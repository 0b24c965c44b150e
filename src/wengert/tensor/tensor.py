"""The class of boxed arrays: slots, properties, operators. What they compute is declared in `ops`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..core import backward as core_backward
from ..core import boxing, capturing, native
from ..core.aliasing import NOWHERE, lead_views
from ..core.node_hooks import GradientNode, RemovableHandle, gradient_node, is_end, is_tracked
from ..core.tape import FREED, Leaf, hooks_of, location, retain_gradient
from ..core.traced_writing import start_history
from ..core.tracing import bring_inside
from ..core.updating import update_buffers
from ..declare import fastpath
from ..errors import DTypeError, GradientError
from ..ops.methods import ArrayMethods
from ..typing import Array, DType, DTypeLike, Shape


class Tensor(ArrayMethods):
    """An array that remembers how it was computed; made by `wg.tensor` or `wg.asarray`, not by this class."""

    __slots__ = ("__weakref__", "_alias", "_data", "_grad", "_node", "_state")
    _data: Array
    _node: Any
    _alias: Any
    _grad: Any
    _state: Any
    __array_priority__ = 1000

    # ------------------------------------------------------------------ what it is

    @property
    def shape(self) -> Shape:
        """Extents of the axes."""
        return self._data.shape

    @property
    def dtype(self) -> DType:
        """Type of the elements, a NumPy dtype."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._data.size

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take."""
        return self._data.nbytes

    @property
    def itemsize(self) -> int:
        """Bytes that one element takes."""
        return self._data.itemsize

    @property
    def device(self) -> str:
        """Where the elements are: "cpu", or "cuda:i"."""
        raw = self._data
        return "cpu" if isinstance(raw, (np.ndarray, np.generic)) else f"cuda:{raw.device.id}"

    def _raw(self) -> Array:
        return capturing.raw_of(self) if capturing.engaged else self._data

    def _values(self) -> Array:
        """Return the raw values of all examples that it may stand for, to be looked at and not computed with."""
        return self._raw()

    def examine(self, check: Callable[[np.ndarray], None]) -> None:
        """Call `check(values)`, which raises if they will not do; a compiled function does so in every run.

        The values are those of all examples that the Tensor may stand for, to be looked at and not computed with.

        >>> import wengert as wg
        >>> wg.tensor([1, 2]).examine(lambda values: print(values.max()))
        2
        """
        capturing.examine(self, check)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d Tensor: a scalar has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("a 0-d Tensor cannot be iterated over")
        return (self[i] for i in range(self.shape[0]))

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())

    def __hash__(self) -> int:
        return id(self)

    # ------------------------------------------------------------------ on the tape

    @property
    def requires_grad(self) -> bool:
        """Whether it is on the tape: a leaf that gradients are wanted for, or computed from one."""
        return capturing.told(self, is_tracked) if capturing.engaged else self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Start (or stop) recording what is computed from this leaf; return it.

        Raises:
            DTypeError: the dtype is not a real floating one.
            GradientError: it was computed from something tracked; `detach()` gives a leaf.
        """
        if requires_grad and self._node is not None:
            return self
        if requires_grad:
            bring_inside(self)
            self._node = Leaf(self, self._differentiable_data(), sys._getframe(1))
        elif not self.is_leaf:
            made = location(self._node)
            raise GradientError(f"the Tensor made at {made} is not a leaf; detach() gives one without grad")
        else:
            self._node = None
        start_history(self)
        return self

    def _differentiable_data(self) -> Array:
        raw = self._raw()
        if raw.dtype.kind == "c":
            raise DTypeError("complex Tensors cannot require grad in this version; use their real and imaginary parts")
        if raw.dtype.kind != "f":
            raise DTypeError(
                f"only floating Tensors can require grad, not {raw.dtype}: integers cannot be perturbed. "
                "Convert first, for example with .astype('float32')"
            )
        return raw

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by the user rather than computed from something tracked."""
        return capturing.told(self, is_end) if capturing.engaged else is_end(self._node)

    @property
    def grad_fn(self) -> GradientNode | None:
        """The operation on the tape that made this Tensor, for hooks on it; None for leaves and untracked Tensors.

        >>> import wengert as wg
        >>> wg.sin(wg.tensor(2.0, requires_grad=True)).grad_fn.name
        'sin'
        """
        return capturing.told(self, gradient_node) if capturing.engaged else gradient_node(self._node)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward()` has accumulated here, or None."""
        gradient = getattr(self, "_grad", None)
        if capturing.engaged and (capture := capturing.current()) is not None:
            capture.read_gradient(self, gradient)
        return gradient

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise DTypeError(f"grad must be a Tensor or None, not {type(value).__name__}")
            if value.shape != self.shape or value.dtype != self.dtype:
                raise DTypeError(
                    f"grad must have the Tensor's shape {self.shape} and dtype {self.dtype}, "
                    f"not {value.shape} and {value.dtype}"
                )
        if capturing.engaged and (capture := capturing.current()) is not None:
            capture.set_gradient(self)
        self._grad = value

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool | None = None,
        inputs: Sequence[Tensor] | Tensor | None = None,
    ) -> None:
        """Sweep the tape backwards from here and add the gradients into `.grad` of the leaves.

        Args:
            gradient: the seed, of this Tensor's shape and dtype; may be left out for a scalar.
            retain_graph: keep the tape for another sweep (default: `create_graph`).
            create_graph: record the sweep itself, so that the gradients can be differentiated again (default: where a
                transform or a GradientTape is at work, which may ask).
            inputs: add into these Tensors' `.grad` alone.

        Raises:
            GradientError: not on the tape, no seed for a non-scalar, or a tape that was freed already.
            ShapeError, DTypeError: the seed does not fit.

        >>> import wengert as wg
        >>> x = wg.tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        Tensor([2., 4.], dtype=float32)
        """
        create_graph = capturing.is_observed() if create_graph is None else create_graph
        core_backward.accumulate_gradients(
            (self,),
            (gradient,),
            retain_graph=create_graph if retain_graph is None else retain_graph,
            create_graph=create_graph,
            inputs=(inputs,) if isinstance(inputs, Tensor) else inputs,
        )

    def detach(self) -> Tensor:
        """The same values, off the tape; a view, so that writes are seen by both.

        >>> import wengert as wg
        >>> wg.tensor(1.0, requires_grad=True).detach().requires_grad
        False
        """
        return ops.detach(self)

    def retain_grad(self) -> None:
        """Let `backward()` fill `.grad` here too, though this is not a leaf."""
        if self._node is None:
            raise GradientError("retain_grad: this Tensor is not on the tape, so no gradient will ever reach it")
        if not self.is_leaf:
            retain_gradient(self._node, self)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call `hook(gradient)` when the sweep has this Tensor's gradient; a returned Tensor replaces it.

        >>> import wengert as wg
        >>> x = wg.tensor(3.0, requires_grad=True)
        >>> handle = x.register_hook(lambda gradient: gradient * 10)
        >>> (2 * x).backward(); x.grad.item()
        20.0
        """
        if self._node is None:
            raise GradientError("register_hook: this Tensor is not on the tape, so no gradient will ever reach it")
        return RemovableHandle(hooks_of(self._node), hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """Call `hook(tensor)` after `backward()` has added into this leaf's `.grad`."""
        if not isinstance(self._node, Leaf):
            raise GradientError("post-accumulate hooks belong on leaves that require grad: only those accumulate")
        if self._node.after_accumulate is None:
            self._node.after_accumulate = {}
        return RemovableHandle(self._node.after_accumulate, hook)

    # ------------------------------------------------------------------ out of the library

    def numpy(self) -> np.ndarray:
        """The values as a read-only NumPy array that shares memory; later writes to the Tensor leave it as it is.

        Raises:
            GradientError: the Tensor is on the tape, which the array would silently leave; `detach()` it first.
        """
        self._refuse_to_leave_the_tape("numpy()")
        array = np.asarray(self._raw()).view()
        array.flags.writeable = False
        return array

    def _refuse_to_leave_the_tape(self, name: str, cure: str = "") -> None:
        if self._node is not None:
            raise GradientError(
                f"{name}: the Tensor made at {location(self._node)} is on the tape, and its gradient would end "
                f"here. Write x.detach().numpy() if that is meant; NumPy's functions accept the Tensor as it is{cure}"
            )

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> np.ndarray:
        self._refuse_to_leave_the_tape("conversion to a NumPy array", "; wg.stack makes one Tensor of several")
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def item(self) -> Any:
        """The one element as a Python number.

        Raises:
            ValueError: there is not exactly one element.
        """
        if self.size != 1:
            raise ValueError(f"item() needs a Tensor with one element, not one of shape {self.shape}")
        return self._raw().item()

    def tolist(self) -> Any:
        """The values as (nested lists of) Python numbers."""
        return self._raw().tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"the truth value of a Tensor of shape {self.shape} is ambiguous; use .any() or .all(), "
                "or wg.where for a choice element by element"
            )
        return bool(self._raw().item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self.size != 1:
            raise TypeError(f"only an integer Tensor with one element can be an index, not {self.dtype} {self.shape}")
        return int(self.item())

    def __repr__(self) -> str:
        try:
            raw = np.asarray(self._raw())
        except AttributeError:
            return "Tensor(<not initialised: make Tensors with wg.tensor(data)>)"
        text = np.array2string(raw, separator=", ", prefix="Tensor(", suffix=")")
        parts = [text]
        if raw.dtype not in (np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.bool_)) or not raw.size:
            parts.append(f"dtype={raw.dtype}")
        if not raw.size and raw.shape != (0,):
            parts.insert(1, f"shape={raw.shape}")
        if self._node is not None:
            name = "" if isinstance(self._node, Leaf) else _maker(self._node)
            parts.append(f"requires_grad=True{name}")
        return f"Tensor({', '.join(parts)})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.is_leaf:
            raise GradientError("only leaves can be copied deeply or pickled; detach() the Tensor first")
        return _rebuild, (np.array(self._raw()), self.requires_grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        build, arguments = self.__reduce__()
        copied = memo[id(self)] = build(*arguments)
        if self.grad is not None:
            copied.grad = self.grad.clone().detach()
        return copied

    def __dlpack__(self, **options: Any) -> Any:
        self._refuse_to_leave_the_tape("DLPack export")
        return np.array(self._raw()).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return np.asarray(self._raw()).__dlpack_device__()

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return ops

    def to(self, device: str | DTypeLike) -> Tensor:
        """Move to a device ("cpu"), or convert to a dtype."""
        if isinstance(device, str) and (device == "cpu" or device.startswith("cuda")):
            if device != self.device:
                raise NotImplementedError(f"moving from {self.device} to {device} is not supported in this version")
            return self
        return ops.astype(self, device, copy=False)

    # ------------------------------------------------------------------ writing

    def __getitem__(self, key: Any) -> Tensor:
        return ops.getitem(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        ops.setitem(self, key, value)

    def copy_(self, value: Any) -> Tensor:
        """Write `value` (broadcast) over all elements, in place and through all views."""
        return ops.overwrite(self, value, "copy_")

    def fill_(self, value: Any) -> Tensor:
        """Write one value over all elements, in place and through all views."""
        return ops.overwrite(self, value, "fill_")

    def zero_(self) -> Tensor:
        """Write zeros over all elements, in place and through all views."""
        return ops.overwrite(self, 0, "zero_")

    def update_buffer(self, update: Callable[[np.ndarray], None]) -> None:
        """Let `update(array)` change the values of an untracked Tensor or a leaf in place, off the tape.

        The array is writable and private while `update` runs: what the tape keeps stays as it was, and views follow.
        This is how optimisers write parameters without a temporary.
        """

        def update_one(arrays: list[np.ndarray]) -> None:
            update(arrays[0])

        update_buffers((self,), update_one)

    @staticmethod
    def update_buffers(tensors: Sequence[Tensor], update: Callable[[list[np.ndarray]], None]) -> None:
        """Let `update(arrays)` change the values of several distinct Tensors, as `update_buffer` does of one.

        All of them are made ready before `update` runs: if that fails, nothing has been changed.
        """
        update_buffers(tensors, update)

    @staticmethod
    def update_natively(rule: Any, record: Callable[[Sequence[Any]], None], arrays: Sequence[np.ndarray]) -> bool:
        """Do to C-contiguous arrays what `record` does to things that look like them, in one pass, if that pays.

        `rule` is all that `record` depends on. The largest array comes first; numbers are arrays without axes. Returns
        whether it was done.
        """
        return native.updated(rule, record, arrays)

    @staticmethod
    def recorder() -> Any:
        """Return what records the function that is being compiled here, or None.

        For those who do something in Python in every step, as optimisers do: a compiled function does not run its
        Python code again, but calls what was left with the recorder.
        """
        return capturing.current()


class BorrowedTensor(Tensor):
    """A Tensor over memory that somebody else may write to; it becomes an ordinary one when it needs its own."""

    __slots__ = ()

    def _raw(self) -> Array:
        capture = capturing.current() if capturing.engaged else None
        if capture is None:
            return self._alias.array
        (stand_in,) = capture.arguments((self,), "a look at a value")
        return stand_in._raw()

    @property
    def shape(self) -> Shape:
        """Extents of the axes."""
        return self._alias.array.shape

    @property
    def dtype(self) -> DType:
        """Type of the elements, a NumPy dtype."""
        return self._alias.array.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._alias.array.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._alias.array.size

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take."""
        return self._alias.array.nbytes

    @property
    def itemsize(self) -> int:
        """Bytes that one element takes."""
        return self._alias.array.itemsize

    def become_owner(self) -> None:
        """Copy the borrowed memory and become an ordinary Tensor; the views of it follow."""
        loan = self._alias
        self._data = np.array(loan.array)
        self.__class__ = Tensor  # type: ignore[assignment]
        if loan.family is None:
            del self._alias
        else:
            self._alias = loan.family
            lead_views(self, True, NOWHERE)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Take a copy, and start recording what is computed from it."""
        self.become_owner()
        return self.requires_grad_(requires_grad)


def _maker(node: Any) -> str:
    return "" if node.primitive is FREED else f", made by {node.primitive.name}"


def _rebuild(data: np.ndarray, requires_grad: bool) -> Tensor:
    made = boxing.box(data)
    return made.requires_grad_() if requires_grad else made


boxing.install(Tensor, BorrowedTensor, ops)
fastpath.install(Tensor)
