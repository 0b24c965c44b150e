"""Gradients on demand: `grad` returns them, `backward` adds them into `.grad`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from .core import boxing, capturing, pytree
from .core.backward import accumulate_gradients, gradients_of, input_node, seed_of, zeros_for
from .core.node_hooks import RemovableHandle, per_sweep
from .core.rows import batched_gradients_of, one_for_each_element, stacked_gradients
from .core.tape import Leaf, Node, hooks_of, location
from .errors import DTypeError, GradientError, StructureError
from .tensor import tracer as tracer
from .typing import PyTree


def grad(
    outputs: PyTree,
    inputs: PyTree,
    grad_outputs: PyTree = None,
    retain_graph: bool | None = None,
    create_graph: bool | None = None,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
    is_grads_batched: bool = False,
) -> Any:
    """Return the gradients of the (sum of the) outputs with respect to the inputs; no `.grad` is touched.

    Only what lies between the outputs and the inputs is swept, and freed unless `retain_graph` says otherwise. Hooks
    on the Tensors that the sweep passes run, those of the inputs included.

    Args:
        outputs: Tensors on the tape, one or any nesting of tuples, lists and dicts.
        inputs: Tensors on the tape, leaves or not: one, or any nesting.
        grad_outputs: a seed for every output, in the same nesting; None where the output is a scalar.
        retain_graph: keep the tape for another sweep (default: `create_graph`).
        create_graph: record the sweep itself, so that the gradients can be differentiated again (default: where a
            transform or a GradientTape is at work, which may ask).
        allow_unused: return None for inputs that the outputs don't depend on (default: `materialize_grads`).
        materialize_grads: return zeros for them.
        is_grads_batched: `grad_outputs` are stacks of seeds, along first axes of their own; the gradients come stacked
            likewise, from one sweep over all seeds.

    Returns:
        A tuple of gradients for one Tensor or a sequence of them, as in PyTorch; otherwise the nesting of the inputs.

    Raises:
        GradientError: an input isn't on the tape or isn't used, an output isn't on the tape or needs a seed, or the
            tape was freed by an earlier sweep.
        ShapeError, DTypeError, StructureError: a seed doesn't fit its output.

    >>> import wengert as wg
    >>> x = wg.tensor([1.0, 2.0], requires_grad=True)
    >>> (gradient,) = wg.autograd.grad((x * x).sum(), x)
    >>> gradient
    Tensor([2., 4.], dtype=float32)
    >>> w, b = wg.tensor(3.0, requires_grad=True), wg.tensor(1.0, requires_grad=True)
    >>> wg.autograd.grad(w * 2.0 + b, {"w": w, "b": b})
    {'w': Tensor(2., dtype=float32), 'b': Tensor(1., dtype=float32)}

    The Jacobian of a Tensor that has been computed already, in one sweep:

    >>> y = x * x
    >>> wg.autograd.grad(y, x, wg.eye(2), is_grads_batched=True)[0].tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """
    name = "autograd.grad"
    create_graph = capturing.is_observed() if create_graph is None else create_graph
    tensors, seeds = _outputs_and_seeds(outputs, grad_outputs, name, "outputs", "grad_outputs")
    leaves, structure = pytree.flatten(inputs)
    if not leaves:
        raise GradientError(f"{name}: there are no inputs to differentiate with respect to")
    nodes = [_input_node(x, structure, i, name) for i, x in enumerate(leaves)]
    if materialize_grads and allow_unused is False:
        raise GradientError(f"{name}: materialize_grads=True is about unused inputs, which allow_unused=False forbids")

    def refuse_unused(lost: frozenset[Node]) -> None:
        unused = [(path, node) for path, node in zip(structure.paths("inputs"), nodes) if node in lost]
        raise GradientError(_unused(unused, len(nodes), tensors, name))

    find = batched_gradients_of if is_grads_batched else gradients_of
    gradients = find(
        tensors,
        nodes,
        seeds,
        retain_graph=create_graph if retain_graph is None else retain_graph,
        create_graph=create_graph,
        name=name,
        refuse_unused=None if allow_unused or materialize_grads else refuse_unused,
    )
    if materialize_grads:
        stack = seeds[0].shape[:1] if is_grads_batched else ()
        gradients = [zeros_for((*stack, *n.shape), n.dtype) if g is None else g for n, g in zip(nodes, gradients)]
    elif not allow_unused and any([g is None for g in gradients]):
        refuse_unused(frozenset([node for node, g in zip(nodes, gradients) if g is None]))
    nested = structure.unflatten(gradients)
    if isinstance(inputs, boxing.Tensor):
        return (nested,)
    return tuple(nested) if type(inputs) is list else nested


def jacobian(output: Any, inputs: PyTree, retain_graph: bool | None = None, create_graph: bool | None = None) -> Any:
    """Return the Jacobian of a Tensor that has been computed already: one sweep, batched over its elements.

    Args:
        output: a Tensor on the tape, of any shape.
        inputs: Tensors on the tape, leaves or not: one, or any nesting.
        retain_graph: keep the tape for another sweep (default: `create_graph`).
        create_graph: record the sweep itself, so that the Jacobian can be differentiated (default: where a transform
            or a GradientTape is at work, which may ask).

    Returns:
        For each input a Tensor of shape `output.shape + input.shape`, nested as the inputs are; zeros where the output
        does not depend on it.

    Raises:
        GradientError: the output or an input isn't on the tape, or the tape was freed by an earlier sweep.

    >>> import wengert as wg
    >>> x = wg.tensor([1.0, 2.0], requires_grad=True)
    >>> wg.autograd.jacobian(x * x, x).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """
    name = "autograd.jacobian"
    create_graph = capturing.is_observed() if create_graph is None else create_graph
    (tensor,), _ = _outputs_and_seeds(output, None, name, "output", "")
    if tensor._node is None:
        seed_of(None, None, tensor, name=name)
    leaves, structure = pytree.flatten(inputs)
    nodes = [_input_node(x, structure, i, name) for i, x in enumerate(leaves)]
    columns = stacked_gradients(
        tensor,
        nodes,
        one_for_each_element(tensor.shape, tensor.dtype),
        name=name,
        retain_graph=create_graph if retain_graph is None else retain_graph,
        create_graph=create_graph,
    )
    shapes = [(*tensor.shape, *node.shape) for node in nodes]
    return structure.unflatten(
        [
            zeros_for(shape, node.dtype) if column is None else boxing.operations.reshape(column, shape)
            for node, shape, column in zip(nodes, shapes, columns)
        ]
    )


def backward(
    tensors: PyTree,
    grad_tensors: PyTree = None,
    retain_graph: bool | None = None,
    create_graph: bool | None = None,
    inputs: Sequence[Any] | Any | None = None,
) -> None:
    """Add the gradients of the (sum of the) tensors into `.grad` of the leaves, all of them or, on an error, none.

    Args:
        tensors: Tensors on the tape, one or any nesting.
        grad_tensors: a seed for each, in the same nesting; None where it is a scalar.
        retain_graph: keep the tape for another sweep (default: `create_graph`).
        create_graph: record the sweep itself, so that the gradients can be differentiated again (default: where a
            transform or a GradientTape is at work, which may ask).
        inputs: add into these Tensors' `.grad` alone.

    Raises:
        GradientError: a Tensor isn't on the tape or needs a seed, or the tape was freed by an earlier sweep.
        ShapeError, DTypeError, StructureError: a seed doesn't fit.

    >>> import wengert as wg
    >>> x = wg.tensor(3.0, requires_grad=True)
    >>> wg.autograd.backward([x * x, 2 * x])
    >>> x.grad.item()
    8.0
    """
    name = "autograd.backward"
    create_graph = capturing.is_observed() if create_graph is None else create_graph
    outputs, seeds = _outputs_and_seeds(tensors, grad_tensors, name, "tensors", "grad_tensors")
    accumulate_gradients(
        outputs,
        seeds,
        retain_graph=create_graph if retain_graph is None else retain_graph,
        create_graph=create_graph,
        inputs=None if inputs is None else pytree.flatten(inputs)[0],
        name=name,
    )


def _input_node(x: Any, structure: pytree.Structure, i: int, name: str) -> Node:
    if isinstance(x, boxing.Tensor) and x._node is not None and not capturing.engaged:
        return x._node
    return input_node(x, name, structure.paths("inputs")[i])


def _outputs_and_seeds(
    outputs: PyTree, seeds: PyTree, name: str, outputs_name: str, seeds_name: str
) -> tuple[list[Any], list[Any]]:
    """Return (the output Tensors, a seed or None for each)."""
    tensors, structure = pytree.flatten(outputs)
    for i, tensor in enumerate(tensors):
        if not isinstance(tensor, boxing.Tensor):
            path = structure.paths(outputs_name)[i]
            raise DTypeError(f"{name}: {path} is of type {type(tensor).__name__}, not a Tensor")
    if not tensors:
        raise GradientError(f"{name}: there are no {outputs_name} to differentiate")
    if seeds is None:
        return tensors, [None] * len(tensors)
    if isinstance(outputs, boxing.Tensor) and type(seeds) in (tuple, list) and len(seeds) == 1:
        return tensors, list(seeds)  # one seed for one output, in a sequence of its own, as PyTorch takes it too
    if type(outputs) is not type(seeds) and {type(outputs), type(seeds)} == {tuple, list}:
        seeds = type(outputs)(seeds)
    elif isinstance(seeds, boxing.Tensor) and len(tensors) == 1:
        return tensors, [seeds]
    try:
        return tensors, structure.flatten_like(seeds, seeds_name)
    except StructureError as error:
        raise StructureError(f"{name}: {seeds_name} must be nested as {outputs_name} is: {error}") from None


def _unused(unused: Sequence[tuple[str, Node]], count: int, outputs: Sequence[Any], name: str) -> str:
    """Return a message that names every input that no output depends on, and where it was made."""
    named = [
        f"{path} ({'a leaf' if isinstance(node, Leaf) else 'computed'}, shape {node.shape}, made at {location(node)})"
        for path, node in unused
    ]
    ends = " and ".join([location(output._node) for output in outputs[:3]])
    return (
        f"{name}: {len(named)} of {count} inputs are not used: what was made at {ends} does not depend on "
        f"{'; '.join(named)}. Somewhere on the way the value was detached, computed under no_grad(), converted to an "
        "integer or a NumPy array, or overwritten, or it was never used. Pass allow_unused=True for None in its place, "
        "or materialize_grads=True for zeros"
    )


# ---------------------------------------------------------------------- hooks on several gradients


def register_multi_grad_hook(
    tensors: Sequence[Any], fn: Callable[[Any], None], *, mode: Literal["all", "any"] = "all"
) -> MultiGradHandle:
    """Call a function once in each sweep, when the gradients of several Tensors are there, or the first of them.

    Sweeps in different threads are kept apart. Hooks on the single Tensors that were registered earlier run first, and
    the function sees what they made of the gradients.

    Args:
        tensors: Tensors on the tape.
        fn: with "all", takes a list of their gradients, as soon as all have arrived; if a sweep does not reach all, it
            is called at the end of the sweep, with None for those that it has not met, and not at all if it has met
            none. With "any", takes the first gradient that arrives. What it returns is not looked at.
        mode: "all" or "any".

    Returns:
        A handle whose `remove()` takes the hook away.

    Raises:
        GradientError: there are no tensors, or one of them isn't on the tape.

    >>> import wengert as wg
    >>> x, y = wg.tensor(2.0, requires_grad=True), wg.tensor(3.0, requires_grad=True)
    >>> handle = wg.autograd.register_multi_grad_hook([x, y], lambda grads: print([g.item() for g in grads]))
    >>> (x * y).backward()
    [3.0, 2.0]
    """
    name = "register_multi_grad_hook"
    if mode not in ("all", "any"):
        raise ValueError(f"{name}: mode must be 'all' or 'any', not {mode!r}")
    if not tensors:
        raise GradientError(f"{name}: there are no tensors whose gradients could be waited for")
    nodes = [input_node(tensor, name, f"tensors[{i}]") for i, tensor in enumerate(tensors)]
    joint = _JointHook(fn, len(nodes), mode == "any")
    return MultiGradHandle([RemovableHandle(hooks_of(node), joint.hook(i)) for i, node in enumerate(nodes)])


class MultiGradHandle:
    """What `register_multi_grad_hook` returns: `remove()` takes the hook away; a `with` block does so at its end."""

    __slots__ = ("_handles",)

    def __init__(self, handles: Sequence[RemovableHandle]) -> None:
        self._handles = handles

    def remove(self) -> None:
        """Take the hook away; doing so twice is harmless."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> MultiGradHandle:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.remove()


class _JointHook:
    """One function for several gradients; what has arrived is noted down for each sweep."""

    __slots__ = ("any", "count", "function")

    def __init__(self, function: Callable[[Any], None], count: int, any_one: bool) -> None:
        self.function = function
        self.count = count
        self.any = any_one

    def hook(self, index: int) -> Callable[[Any], None]:
        """Return the hook for one of the Tensors."""

        def arrive(gradient: Any) -> None:
            sweeps = per_sweep.get()
            if sweeps is None:  # nobody would tell us of the sweep's end
                return
            if self not in sweeps:
                sweeps[self] = _Arrivals(self)
            sweeps[self].add(index, gradient)

        return arrive


class _Arrivals:
    """The gradients of one sweep that have arrived for a joint hook."""

    __slots__ = ("called", "gradients", "hook", "missing")

    def __init__(self, hook: _JointHook) -> None:
        self.hook = hook
        self.gradients: list[Any] = [None] * hook.count
        self.missing = hook.count
        self.called = False

    def add(self, index: int, gradient: Any) -> None:
        """Note a gradient down, and call the function if it was the one to wait for."""
        if self.called:
            return
        if self.hook.any:
            self.called = True
            self.hook.function(gradient)
            return
        self.gradients[index] = gradient
        self.missing -= 1
        if not self.missing:
            self.finish()

    def finish(self) -> None:
        """Call the function, unless that was done."""
        if not self.called:
            self.called = True
            self.hook.function(self.gradients)


__all__ = ["MultiGradHandle", "backward", "grad", "jacobian", "register_multi_grad_hook"]
