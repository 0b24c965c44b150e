"""Lowering of attention: its kernels read heads as they lie, and divide what there is among threads."""

from __future__ import annotations

from collections.abc import Callable

from .expand_attention import ATTENTION, has_kernel
from .graph import Equation
from .kernels import Kernel
from .llvm.attention import attention_kernel
from .llvm.attention_pull import pull_kernel, pull_keys_kernel, pull_queries_kernel
from .llvm.attention_shape import Attention
from .llvm.machine import Machine
from .llvm.recipes import Recipe
from .llvm.target import available_cores
from .lower import Step
from .lower_layout import Layouts


def is_attention(equation: Equation) -> bool:
    """Whether there are kernels for an equation: what they read has memory, and its last axis is contiguous there."""
    if equation.primitive.name not in ATTENTION:
        return False
    values = equation.values()
    return len(values) == len(equation.inputs) and has_kernel(values, narrow=False, is_causal=False)


def attention_steps(layouts: Layouts, equation: Equation) -> list[Step]:
    """Return the steps of attention, or of its gradient."""
    out = equation.outputs[0]
    *values, mask = equation.values()
    places = [layouts.of(value) for value in equation.values()]
    *found, seen = [place for place in places if place is not None]
    query, key = values[-3:-1]
    *batch, queries, features = query.shape
    strides = tuple([place.strides for place in found])
    of_mask = None
    if mask.size:
        of_mask = tuple([0 if extent == 1 else stride for extent, stride in zip(mask.shape, seen.strides)])
        of_mask = (0,) * (len(query.shape) - len(of_mask)) + of_mask
        found.append(seen)
    causal = equation.params["is_causal"]
    added = mask.dtype == out.dtype
    shape = Attention(tuple(batch), queries, key.shape[-2], features, out.dtype, causal, strides, of_mask, added)
    memory = (*[place.base for place in found], out)
    offsets = (*[place.offset for place in found], 0)
    kernels = [attention_kernel] if equation.primitive.name == "attend" else _pulling(shape)
    return [
        Step(Recipe(kernel, (shape,)), memory, frozenset(memory[:-1]), (out,), offsets=offsets) for kernel in kernels
    ]


def _pulling(shape: Attention) -> list[Callable[[Attention, Machine], Kernel]]:
    """Return the kernels of the gradient: five products for each head, or seven for blocks of heads.

    Both compute the same bits, so that it may depend on the number of threads which of them takes less time.
    """
    threads = available_cores()
    whole = 5 * -(-shape.heads // threads) <= 7 * shape.heads / threads
    return [pull_kernel] if whole else [pull_keys_kernel, pull_queries_kernel]
