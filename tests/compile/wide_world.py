"""Worlds for wide random programs: what a function closes over, what it is given call by call, what happens in between.

Wider than `program_samples`: arguments of several kinds follow each other (other shapes, dtypes, layouts, values of
Python's, keywords, the closed-over Tensors themselves), numbers may be zeros, infinities and NaN, results of all calls
are kept and looked at again at the end, and written to.
"""

from __future__ import annotations

import random
import types
from collections.abc import Callable
from typing import Any

import numpy as np

import wengert as wg
from tests.compile.wide_rounding import Jitter, Moved

EXTENTS = [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33]
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5]
KINDS = [
    *("float", "float", "float", "tracked", "tracked", "computed", "array", "array", "number"),
    *("turned", "strided", "backwards", "wide", "integers", "booleans", "other dtype"),
    *("view", "leaf", "part of a leaf", "same", "int", "fraction", "flag", "name", "nested", "nothing"),
    *("part of another", "detached", "part of a result", "turned in turn"),
]
"""What an argument may be."""
OPTIMIZERS: list[Callable[[Any], Any]] = [
    lambda leaves: wg.optim.SGD(leaves, lr=0.05, momentum=0.5),
    lambda leaves: wg.optim.Adam(leaves, lr=0.05),
    lambda leaves: wg.optim.AdamW(leaves, lr=0.05),
    lambda leaves: wg.optim.RMSprop(leaves, lr=0.01),
    lambda leaves: wg.optim.Adagrad(leaves, lr=0.05),
]


class Scope:
    """What a program closes over.

    Attributes:
        leaves: Tensors that require grad, at first.
        buffers: Tensors that do not; the second is a view of the first.
        array, positions: arrays of NumPy's, of floats and of integers.
        box: an object with attributes: a flag, numbers, a name, a list of Tensors, a dict.
        module: a network with state of its own.
        helper: a function that is compiled in one of the plays.
        jitter: moves what operations make, in some plays.
    """

    dtype: str
    leaves: list[Any]
    buffers: list[Any]
    array: np.ndarray
    positions: np.ndarray
    box: Any
    module: Any
    optimizer: Any
    helper: Any
    jitter: Jitter | None


class World:
    """A scope, how programs in it are called, and what happens to it between calls.

    Attributes:
        stretched: results that could not be written to, since their elements share memory: the call, and which one.
            Compiled code returns arrays of their own in the place of most of them.
        lent: NumPy's arrays that were arguments.
    """

    def __init__(self, seed: int, compiler: Callable[[Any], Any], jitter: Jitter | None = None) -> None:
        self.jitter = jitter
        self.held: list[Any] = []
        self.stretched: set[tuple[int, int]] = set()
        self.lent: list[np.ndarray] = []
        self.choices = random.Random(seed)
        self.rng = np.random.default_rng(seed)
        choose = self.choices.choice
        self.scope = Scope()
        self.scope.jitter = jitter
        self.scope.dtype = choose(["float64", "float64", "float32"])
        self.is_special = self.choices.random() < 0.2
        self.extents = [choose(EXTENTS) for _ in range(3)]
        if self.choices.random() < 0.05:
            self.extents[self.choices.randrange(3)] = 0
        self.scope.leaves = [self.tensor(self.shape()).requires_grad_() for _ in range(2)]
        self.scope.buffers = [self.tensor((self.extents[0], self.extents[1])), None, self.tensor(self.shape())]
        self.scope.buffers[1] = self.scope.buffers[0][..., : max(1, self.extents[1] // 2)]
        self.scope.array = self.numbers(self.shape())
        self.scope.positions = self.rng.integers(0, max(1, min(self.extents)), 3)
        self.scope.box = types.SimpleNamespace(
            flag=True,
            scale=0.5,
            count=2,
            name="tanh",
            parts=[self.scope.leaves[0]],
            table={"x": self.scope.leaves[1], "n": 1.5},
        )
        width = max(1, self.extents[1])
        wg.random.seed(seed)
        usual = wg.get_default_dtype()
        wg.set_default_dtype(self.scope.dtype)
        layers: list[Any] = [
            wg.nn.Linear(width, 3),
            choose([wg.nn.BatchNorm1d(3), wg.nn.LayerNorm(3), wg.nn.Tanh()]),
            choose([wg.nn.Dropout(0.5), wg.nn.ReLU(), wg.nn.GELU()]),
        ]
        if jitter is not None:
            layers = [layers[0], Moved(jitter), layers[1], Moved(jitter), layers[2]]
        self.scope.module = wg.nn.Sequential(*layers)
        wg.set_default_dtype(usual)
        self.scope.optimizer = choose(OPTIMIZERS)([*self.scope.leaves, *self.scope.module.parameters()])
        self.choices.random()
        leaves = self.scope.leaves
        self.scope.helper = compiler(lambda x, y: wg.tanh(x) * y + leaves[0].sum())
        count = self.choices.randrange(1, 4)
        self.signatures = [[(choose(KINDS), self.shape()) for _ in range(count)] for _ in range(2)]
        self.uses_keywords = self.choices.random() < 0.2
        self.writes_to_results = self.choices.random() < 0.3

    @property
    def has_single(self) -> bool:
        """Whether any argument is of single precision."""
        kinds = {kind for signature in self.signatures for kind, _ in signature}
        return self.scope.dtype == "float32" or "other dtype" in kinds

    def shape(self) -> tuple[int, ...]:
        a, b, c = self.extents
        return self.choices.choice([(), (a,), (b,), (a, b), (a, b), (b, c), (1, b), (a, 1), (c, a, b), (a, a), (b, a)])

    def numbers(self, shape: tuple[int, ...], rng: Any = None) -> np.ndarray:
        rng = self.rng if rng is None else rng
        made = np.asarray(rng.uniform(-2, 2, shape)).astype(self.scope.dtype)
        if self.is_special and made.size:
            flat = made.reshape(-1)
            for _ in range(1 + made.size // 8):
                flat[rng.integers(made.size)] = SPECIAL[rng.integers(len(SPECIAL))]
            made = flat.reshape(shape)
        return made if self.jitter is None else self.jitter.of_array(made)

    def tensor(self, shape: tuple[int, ...], rng: Any = None) -> wg.Tensor:
        return wg.tensor(self.numbers(shape, rng))

    # ------------------------------------------------------------------ arguments

    def arguments(self, call: int) -> tuple[list[Any], dict[str, Any]]:
        """Return what the function is given: kinds change between calls, and come again."""
        rng = np.random.default_rng(1000 + call // 2)
        signature = self.signatures[(call // 2) % 3 == 1]
        made: list[Any] = []
        for kind, shape in signature:
            made.append(self._argument(kind, shape, rng, made, call))
        if self.uses_keywords:
            return made[:1], {f"k{i}": value for i, value in enumerate(made[1:])}
        return made, {}

    def _argument(self, kind: str, shape: tuple[int, ...], rng: Any, made: list[Any], call: int) -> Any:
        floats = self.numbers(shape, rng)
        if kind in ("float", "tracked"):
            return wg.tensor(floats).requires_grad_(kind == "tracked")
        if kind == "computed":
            return wg.tensor(floats).requires_grad_() * 1.5
        if kind == "array":
            return floats
        if kind == "number":
            return floats.dtype.type(rng.uniform(-1, 1))
        if kind in ("turned", "strided", "backwards", "wide"):
            return self._laid_out(kind, shape, rng)
        if kind == "integers":
            return wg.tensor(rng.integers(0, 3, shape))
        if kind == "booleans":
            return wg.tensor(rng.integers(0, 2, shape) > 0)
        if kind == "other dtype":
            other = floats.astype("float32" if self.scope.dtype == "float64" else "float64")
            return wg.tensor(other if self.jitter is None else self.jitter.of_array(other))
        return self._special_argument(kind, floats, rng, made, call)

    def _laid_out(self, kind: str, shape: tuple[int, ...], rng: Any) -> Any:
        """Return an array, or a Tensor over one, whose elements do not lie one after another."""
        if kind == "turned":
            array = self.numbers(shape[::-1], rng).T
        elif kind == "strided":
            array = self.numbers((*shape[:-1], 2 * shape[-1]), rng)[..., ::2] if shape else self.numbers((3,), rng)[1]
        elif kind == "backwards":
            array = np.flip(self.numbers(shape, rng))
        else:
            array = np.broadcast_to(self.numbers(shape[1:], rng), shape)
        array = np.asarray(array)
        return array if self.choices.random() < 0.5 else wg.asarray(array)

    def _special_argument(self, kind: str, floats: np.ndarray, rng: Any, made: list[Any], call: int) -> Any:
        if kind == "view":
            return self.scope.buffers[0][: 1 + call % 2]
        if kind == "leaf":
            return self.scope.leaves[call % 2] if call < 4 else wg.tensor(floats).requires_grad_()
        if kind == "part of a leaf":
            leaf = self.scope.leaves[0]
            return leaf[..., :1] if leaf.ndim else leaf * 1
        if kind == "same":
            return made[0] if made else wg.tensor(floats)
        if kind in ("part of another", "detached"):
            others = [other for other in made if isinstance(other, wg.Tensor) and other.ndim]
            other = others[-1] if others else self.scope.leaves[0]
            return other.detach() if kind == "detached" or not other.ndim else other[..., :1]
        if kind == "turned in turn":
            return wg.asarray(np.array(floats, order="F" if call % 2 else "C")) * 1
        if kind == "part of a result":
            held = [result for result in self.held if isinstance(result, wg.Tensor) and result.ndim]
            return held[-1][..., :1] if held and held[-1].dtype.kind == "f" else wg.tensor(floats)
        if kind == "nested":
            return {"a": [wg.tensor(floats), 2.0], "b": (floats, None, {"c": self.tensor(floats.shape, rng)})}
        if kind == "nothing":
            return None
        plain = {
            "int": call // 3,
            "fraction": 0.5 * (call // 4),
            "flag": call % 4 < 2,
            "name": ["sin", "cos"][call % 8 // 4],
        }
        return plain[kind]

    # ------------------------------------------------------------------ between calls

    def change(self, call: int, held: list[Any]) -> None:
        """Do some of the things that happen between calls of a function."""
        self.held = held
        for _ in range(self.choices.randrange(3)):
            self._change(self.choices.randrange(22), call, held)

    def _change(self, choice: int, call: int, held: list[Any]) -> None:
        leaf = self.scope.leaves[self.choices.randrange(2)]
        if choice == 0 and leaf.is_leaf:
            leaf.requires_grad_(not leaf.requires_grad)
        elif choice == 1:
            leaf.grad = None
        elif choice == 2:
            leaf.grad = wg.ones(leaf.shape, leaf.dtype)
        elif choice == 3:
            with wg.no_grad():
                leaf.copy_(leaf * 0.5)
        elif choice == 4:
            self.scope.buffers[self.choices.randrange(3)][...] = 0.25 * call
        elif choice in (5, 6, 7) and self.scope.array.size:
            self.scope.array.reshape(-1)[self.choices.randrange(self.scope.array.size)] = 0.5 * call
        elif choice == 8:
            self.scope.positions[self.choices.randrange(3)] = 0
        elif choice == 9:
            self.scope.box.scale = 0.25 * (call % 3)
        elif choice == 10:
            self.scope.box.flag = not self.scope.box.flag
        elif choice == 11:
            self.scope.box.parts = [self.scope.leaves[call % 2]] * (1 + call % 2)
        elif choice == 12:
            self.scope.box.table["x"] = self.scope.leaves[call % 2]
        elif choice == 13:
            self.scope.box.name = ["tanh", "sin"][call % 2]
        elif choice == 14:
            self.scope.module.train(call % 2 == 0)
        elif choice == 15:
            self.scope.optimizer.param_groups[0]["lr"] *= 0.5
        elif choice == 16:
            self.scope.optimizer.zero_grad()
        elif choice == 18 and leaf.requires_grad:
            leaf.register_hook(lambda bar: bar * 0.5)
        elif choice == 19:
            leaf.grad = None if leaf.grad is None else leaf.grad.detach()
        elif choice == 17:
            self.scope.buffers[2] = self.tensor(self.shape())
        else:
            self._write_to_a_result(call, held)

    def _write_to_a_result(self, call: int, held: list[Any]) -> None:
        results = [result for result in held if isinstance(result, wg.Tensor) and result.dtype.kind == "f"]
        if not results or not self.writes_to_results:
            return
        place = self.choices.randrange(len(results))
        if (call, place) in self.stretched:
            return
        # What is written to a view of an array that was given reaches the Tensor that stands for the array in eager
        # code; a compiled function gives back the array itself.
        if any([np.may_share_memory(results[place].detach().numpy(), array) for array in self.lent]):
            self.stretched.add((call, place))
            return
        try:
            with wg.no_grad():
                results[place][...] = 0.125
        except ValueError:
            self.stretched.add((call, place))


__all__ = ["Scope", "World"]
