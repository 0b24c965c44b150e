"""Random programs of views, reads, arithmetic and writes: aliasing as NumPy's, gradients as of the functional rewrite.

Every step is taken twice: by Wengert, and by `tests.oracles.cells`, where NumPy itself does the aliasing on arrays of
scalars and a scalar tape the derivatives. Losses are taken in the middle of a program and swept at its end, so that any
write that reached what the tape had kept would show.
"""

# NumPy's stubs do not know what else answers its protocols.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import wengert as wg
from tests.oracles import cells
from tests.oracles.cells import Array, Scalar
from wengert.core import aliasing

_SMALL_PART = aliasing._SMALL_PART

SHAPES = [(4,), (9,), (3, 2), (2, 3), (1, 4), (3, 3), (2, 2, 3), (10, 2), ()]
LIMIT = 100.0
"""Results beyond are not kept: repeated squares would leave nothing to compare."""
MOST = 12
"""Tensors alive at once."""

MOST_PICK = 40
pick = st.integers(0, MOST_PICK)
small = st.integers(-12, 12)
number = st.sampled_from([0.5, -1.25, 2.0, 0.0])
bound = st.none() | small
stride = st.sampled_from([None, 1, 2, 3, -1, -2])
part = st.one_of(
    st.tuples(st.just("slice"), bound, bound, stride),
    st.tuples(st.just("int"), small),
    st.tuples(st.just("new")),
    st.tuples(st.just("all")),
)
basic_spec = st.tuples(st.lists(part, max_size=3), st.booleans())
flag = st.booleans()


def to_key(spec: tuple[list[Any], bool], shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Make a basic key that is valid for a shape."""
    key: list[Any] = []
    axis = 0
    for kind, *values in spec[0]:
        if kind == "new":
            key.append(None)
        elif axis < len(shape):
            extent = shape[axis]
            axis += 1
            if kind == "slice":
                key.append(slice(*values))
            elif kind == "int" and extent:
                key.append(values[0] % extent)
            else:
                key.append(slice(None))
    return (*key, Ellipsis) if spec[1] else tuple(key)


mixed_part = st.one_of(
    part,
    st.tuples(st.just("array"), st.lists(small, min_size=2, max_size=2)),
    st.tuples(st.just("table"), st.lists(small, min_size=4, max_size=4)),
    st.tuples(st.just("mask"), st.integers(0, 255)),
)
mixed_spec = st.tuples(st.lists(mixed_part, min_size=1, max_size=4), st.none() | st.integers(0, 3))


def to_mixed_key(spec: tuple[list[Any], int | None], shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Make a key of integers, slices, new axes, integer arrays and masks; an Ellipsis may stand anywhere."""
    key: list[Any] = []
    axis = 0
    for kind, *values in spec[0]:
        if kind == "new":
            key.append(None)
        elif axis < len(shape):
            key.append(_mixed_part(kind, values, shape[axis]))
            axis += 1
    if spec[1] is not None and axis == len(shape):
        key.insert(spec[1] % (len(key) + 1), Ellipsis)
    # Masks count as arrays of as many positions as they have true elements, and must fit the arrays beside them.
    counts = {int(p.sum()) for p in key if isinstance(p, np.ndarray) and p.dtype == bool}
    others = any(isinstance(p, np.ndarray) and p.dtype != bool for p in key)
    return tuple(key) if not counts or counts == {2} or (len(counts) == 1 and not others) else tuple(key[:1])


def _mixed_part(kind: str, values: list[Any], extent: int) -> Any:
    if kind == "slice":
        return slice(*values)
    if kind == "int" and extent:
        return values[0] % extent
    if kind == "array" and extent:
        return np.array([v % extent for v in values[0]])
    if kind == "table" and extent:
        return np.array([v % extent for v in values[0]]).reshape(2, 2)
    if kind == "mask":
        return np.array([bool(values[0] >> i & 1) for i in range(extent)], bool)
    return slice(None)


def positions_for(shape: tuple[int, ...], draws: list[int]) -> np.ndarray:
    """Make an integer array that indexes the first axis, with repetitions."""
    return np.array([d % shape[0] for d in draws], np.intp)


class Pair:
    """A Tensor and its double; `is_number` where NumPy has a scalar rather than a 0-d array."""

    def __init__(self, tensor: wg.Tensor, array: Array, is_number: bool = False) -> None:
        self.tensor = tensor
        self.array = array
        self.is_number = is_number

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.cells.shape


class Mutation(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.live: list[Pair] = []
        self.leaves: list[tuple[wg.Tensor, list[Scalar]]] = []
        self.losses: list[tuple[wg.Tensor, Scalar]] = []
        self.handed_out: list[tuple[np.ndarray, np.ndarray]] = []
        self.made = 0
        self.leaf(0, True)

    @initialize(part=st.sampled_from([1, 2, 8]))
    def choose_what_is_small(self, part: int) -> None:
        """Arrays are small here; where views get memory of their own is moved to where that matters."""
        aliasing._SMALL_PART = part

    # ------------------------------------------------------------------ helpers

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        self.made += 1
        return np.sin(np.arange(np.prod(shape, dtype=int)) * 0.7 + self.made * 1.3).reshape(shape)

    def get(self, which: int) -> Pair:
        """Pick one that is alive, recent ones more often: what is wrong with a view of a view takes a chain to show."""
        return self.live[-1 - which * which * len(self.live) // (MOST_PICK + 1) ** 2]

    def keep(self, tensor: wg.Tensor, array: Array, is_number: bool = False) -> None:
        if len(self.live) >= MOST:
            del self.live[self.made % MOST]
        self.made += 1
        self.live.append(Pair(tensor, array, is_number))

    def view(self, source: Pair, on_tensor: Callable[[Any], Any], on_array: Callable[[Any], Any]) -> None:
        array = source.array.view(on_array)
        self.keep(on_tensor(source.tensor), array)

    def fits(self, which: int, shape: tuple[int, ...]) -> Pair | None:
        """Return a Tensor that broadcasts to a shape, the first from `which` on."""
        for i in range(len(self.live)):
            pair = self.live[(which + i) % len(self.live)]
            try:
                if np.broadcast_shapes(pair.shape, shape) == shape:
                    return pair
            except ValueError:
                pass
        return None

    def is_array(self, pair: Pair) -> bool:
        return not pair.is_number

    # ------------------------------------------------------------------ new ones

    @rule(which=pick, tracked=flag)
    def leaf(self, which: int, tracked: bool) -> None:
        values = self.values(SHAPES[which % len(SHAPES)])
        tensor = wg.tensor(values, requires_grad=tracked)
        array = Array.of_values(values, tracked)
        if tracked:
            self.leaves.append((tensor, list(array.scalars().ravel())))
        self.keep(tensor, array)

    @rule(which=pick)
    def borrow(self, which: int) -> None:
        """A Tensor over an array of the user's, which no write to the Tensor may reach."""
        values = self.values(SHAPES[which % len(SHAPES)])
        self.handed_out.append((values, values.copy()))
        self.keep(wg.asarray(values), Array.of_values(values, False))

    @rule(which=pick)
    def requires_grad(self, which: int) -> None:
        """What was untracked becomes a leaf, be it a view or viewed."""
        pair = self.get(which)
        if pair.tensor.requires_grad or pair.is_number or not pair.array.cells.flags.writeable:
            return
        note(f"requires_grad_ on {pair.shape}")
        pair.tensor.requires_grad_()
        pair.array.become_leaf([other.array for other in self.live])
        self.leaves.append((pair.tensor, list(pair.array.scalars().ravel())))

    @rule(which=pick)
    def clone(self, which: int) -> None:
        source = self.get(which)
        self.keep(source.tensor.clone(), source.array.map(lambda x: cells.same(x, x.value)), is_number=not source.shape)

    @rule(which=pick)
    def drop(self, which: int) -> None:
        if len(self.live) > 1:
            del self.live[which % len(self.live)]

    @rule(which=pick)
    def detach(self, which: int) -> None:
        source = self.get(which)
        if self.is_array(source):
            self.keep(source.tensor.detach(), source.array.detach())

    # ------------------------------------------------------------------ views

    @rule(which=pick, spec=basic_spec)
    def read(self, which: int, spec: Any) -> None:
        source = self.get(which)
        key = to_key(spec, source.shape)
        if not self.is_array(source):
            return
        note(f"read {source.shape}[{key}]")
        picked = source.array.cells[key]
        if isinstance(picked, np.ndarray):
            self.keep(source.tensor[key], source.array.view(lambda cells: cells[key]))
        else:
            self.keep(source.tensor[key], source.array.copied(lambda cells: cells[key]), is_number=True)

    @rule(which=pick, how=pick)
    def rearrange(self, which: int, how: int) -> None:
        source = self.get(which)
        if not self.is_array(source):
            return
        shape, n = source.shape, int(np.prod(source.shape, dtype=int))
        options: list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = [
            ("transpose", lambda t: t.T, lambda c: c.T),
            ("ravel", lambda t: t.reshape(-1), lambda c: c.reshape(-1)),
            ("flip", lambda t: wg.flip(t), lambda c: np.flip(c)),
            ("expand", lambda t: wg.expand_dims(t, 0), lambda c: np.expand_dims(c, 0)),
            ("squeeze", lambda t: wg.squeeze(t), lambda c: np.squeeze(c)),
        ]
        if len(shape) >= 2:
            options += [
                ("swap", lambda t: wg.swapaxes(t, 0, 1), lambda c: np.swapaxes(c, 0, 1)),
                ("flip first", lambda t: wg.flip(t, 0), lambda c: np.flip(c, 0)),
                ("diagonal", lambda t: wg.diagonal(t), _diagonal),
            ]
        if n % 2 == 0 and n:
            options.append(("halves", lambda t: t.reshape(2, n // 2), lambda c: c.reshape(2, n // 2)))
        name, on_tensor, on_array = options[how % len(options)]
        note(f"{name} of {shape}")
        taken = source.array.view(on_array)
        if np.may_share_memory(taken.cells, source.array.cells) or not taken.cells.size:
            self.keep(on_tensor(source.tensor), taken)
        else:
            self.keep(on_tensor(source.tensor), source.array.copied(on_array))

    @rule(which=pick)
    def stretch(self, which: int) -> None:
        source = self.get(which)
        if not self.is_array(source) or len(source.shape) > 2:
            return
        shape = (2, *source.shape)
        note(f"stretch to {shape}")
        self.view(source, lambda t: wg.broadcast_to(t, shape), lambda c: np.broadcast_to(c, shape))

    # ------------------------------------------------------------------ reads that copy

    @rule(which=pick, draws=st.lists(small, min_size=1, max_size=4))
    def gather(self, which: int, draws: list[int]) -> None:
        source = self.get(which)
        if not source.shape or not source.shape[0]:
            return
        key = positions_for(source.shape, draws)
        note(f"gather {key.tolist()} of {source.shape}")
        kept = key.copy()
        tensor = source.tensor[key]
        key[:] = 0  # the tape has kept what it needs
        self.keep(tensor, source.array.copied(lambda cells: cells[kept]))

    @rule(which=pick, threshold=number)
    def gather_by_mask(self, which: int, threshold: float) -> None:
        source = self.get(which)
        if not source.shape:
            return
        mask = source.array.values() > threshold
        note(f"read {source.shape} by a mask")
        self.keep(source.tensor[mask], source.array.copied(lambda cells: cells[mask]))

    @rule(which=pick, spec=mixed_spec)
    def read_mixed(self, which: int, spec: Any) -> None:
        source = self.get(which)
        key = to_mixed_key(spec, source.shape)
        if not self.is_array(source) or not any(isinstance(p, np.ndarray) for p in key):
            return
        note(f"read {source.shape}[{key}]")
        self.keep(source.tensor[key], source.array.copied(lambda cells: cells[key]))

    # ------------------------------------------------------------------ arithmetic

    def keep_result(self, tensor: wg.Tensor, array: Array) -> None:
        if not array.cells.size or np.abs(array.values()).max() < LIMIT:
            self.keep(tensor, array, is_number=not array.cells.shape)

    @rule(which=pick)
    def sine(self, which: int) -> None:
        source = self.get(which)
        note(f"sin of {source.shape}")
        self.keep_result(wg.sin(source.tensor), source.array.map(cells.sin))

    @rule(which=pick, other=pick, how=st.sampled_from(["+", "-", "*"]))
    def combine(self, which: int, other: int, how: str) -> None:
        x = self.get(which)
        y = self.fits(other, x.shape)
        if y is None:
            return
        note(f"{x.shape} {how} {y.shape}")
        self.keep_result(_OPERATORS[how](x.tensor, y.tensor), x.array.map(_OPERATORS[how], y.array))

    @rule(which=pick, copies=flag)
    def times_array(self, which: int, copies: bool) -> None:
        """An array of the user's as an operand, changed as soon as it has been used."""
        source = self.get(which)
        values = self.values(source.shape)
        double = Array.of_values(values, False)
        operand: Any = wg.asarray(values) if copies else values
        tensor = source.tensor * operand
        values[...] = np.nan
        note(f"{source.shape} * an array")
        self.keep_result(tensor, source.array.map(lambda x, y: x * y, double))

    @rule(which=pick, axis=pick)
    def total(self, which: int, axis: int) -> None:
        source = self.get(which)
        over = axis % len(source.shape) if source.shape else None
        note(f"sum of {source.shape} over {over}")
        self.keep_result(wg.sum(source.tensor, axis=over), source.array.total(over))

    # ------------------------------------------------------------------ writes

    def write(self, target: Pair, key: Any, value: Any, recording: bool) -> None:
        """Write into both; `value` is a number or a Pair."""
        double = value.array if isinstance(value, Pair) else value
        written = value.tensor if isinstance(value, Pair) else value
        if not target.array.cells.size:
            return
        if not target.array.cells.flags.writeable:
            try:
                target.tensor[key] = written
            except ValueError as error:
                assert "read-only" in str(error)
                return
            raise AssertionError("a read-only view was written")
        if recording:
            target.tensor[key] = written
        else:
            with wg.no_grad():
                target.tensor[key] = written
        target.array.write(key, double, recording)

    @rule(which=pick, spec=basic_spec, value=pick, constant=number, use_constant=flag, recording=flag)
    def write_basic(
        self, which: int, spec: Any, value: int, constant: float, use_constant: bool, recording: bool
    ) -> None:
        target = self.get(which)
        if not self.is_array(target):
            return
        key = to_key(spec, target.shape)
        region = np.empty(target.shape)[key].shape
        chosen = None if use_constant else self.fits(value, region)
        note(f"{target.shape}[{key}] = {constant if chosen is None else chosen.shape}, {recording=}")
        self.write(target, key, constant if chosen is None else chosen, recording or value % 3 > 0)

    @rule(which=pick, draws=st.lists(small, min_size=1, max_size=4), value=pick, constant=number)
    def write_gathered(self, which: int, draws: list[int], value: int, constant: float) -> None:
        target = self.get(which)
        if not target.shape or not target.shape[0]:
            return
        key = positions_for(target.shape, draws)
        chosen = self.fits(value, (len(draws), *target.shape[1:]))
        note(f"{target.shape}[{key.tolist()}] = {constant if chosen is None else chosen.shape}")
        self.write(target, key, constant if chosen is None else chosen, True)

    @rule(which=pick, spec=mixed_spec, value=pick, constant=number, recording=flag)
    def write_mixed(self, which: int, spec: Any, value: int, constant: float, recording: bool) -> None:
        target = self.get(which)
        if not self.is_array(target):
            return
        key = to_mixed_key(spec, target.shape)
        chosen = self.fits(value, np.empty(target.shape)[key].shape)
        note(f"{target.shape}[{key}] = {constant if chosen is None else chosen.shape}, {recording=}")
        self.write(target, key, constant if chosen is None else chosen, recording or value % 3 > 0)

    @rule(which=pick, threshold=number, value=pick, constant=number)
    def write_masked(self, which: int, threshold: float, value: int, constant: float) -> None:
        target = self.get(which)
        if not target.shape:
            return
        mask = target.array.values() > threshold
        chosen = self.fits(value, (int(mask.sum()),))
        note(f"{target.shape}[mask of {mask.sum()}] = {constant if chosen is None else chosen.shape}")
        self.write(target, mask, constant if chosen is None else chosen, True)

    @rule(which=pick, other=pick, how=st.sampled_from(["+", "-", "*"]), recording=flag)
    def update(self, which: int, other: int, how: str, recording: bool) -> None:
        x = self.get(which)
        y = self.fits(other, x.shape)
        if y is None or not x.array.cells.flags.writeable:
            return
        result = x.array.map(_OPERATORS[how], y.array)
        if result.cells.size and np.abs(result.values()).max() >= LIMIT:
            return
        note(f"{x.shape} {how}= {y.shape}, {recording=}")
        before = x.tensor
        recording = recording or other % 3 > 0
        with wg.enable_grad() if recording else wg.no_grad():
            x.tensor = _update(x.tensor, how, y.tensor)
        if x.is_number:
            x.array = result if recording else result.detach()
            return
        assert x.tensor is before
        x.array.write(Ellipsis, result, recording)

    @rule(which=pick, spec=basic_spec, other=pick)
    def update_region(self, which: int, spec: Any, other: int) -> None:
        """`x[key] += y`: Python reads, updates in place, and writes the region to itself."""
        x = self.get(which)
        key = to_key(spec, x.shape)
        if not self.is_array(x) or not x.array.cells.flags.writeable:
            return
        region = Array(np.asarray(x.array.cells[(*key, Ellipsis) if Ellipsis not in key else key]), x.array.realm)
        y = self.fits(other, region.cells.shape)
        if y is None:
            return
        note(f"{x.shape}[{key}] += {y.shape}")
        x.tensor[key] += y.tensor
        x.array.write(key, region.map(_OPERATORS["+"], y.array))

    @rule(which=pick, source=pick, fills=flag, constant=number)
    def overwrite(self, which: int, source: int, fills: bool, constant: float) -> None:
        target = self.get(which)
        value = self.fits(source, target.shape)
        if not self.is_array(target) or not target.array.cells.flags.writeable:
            return
        if fills or value is None:
            note(f"fill {target.shape}")
            target.tensor.fill_(constant)
            target.array.write(Ellipsis, constant)
        else:
            note(f"copy {value.shape} to {target.shape}")
            target.tensor.copy_(value.tensor)
            target.array.write(Ellipsis, value.array)

    @rule(which=pick, x=pick, y=pick)
    def out(self, which: int, x: int, y: int) -> None:
        """`np.multiply(x, y, out=z)`, where z may be a view of x or y."""
        z = self.get(which)
        left, right = self.fits(x, z.shape), self.fits(y, z.shape)
        if left is None or right is None or not self.is_array(z) or not z.array.cells.flags.writeable:
            return
        result = left.array.map(_OPERATORS["*"], right.array)
        if result.cells.shape != z.shape or (result.cells.size and np.abs(result.values()).max() >= LIMIT):
            return
        note(f"multiply {left.shape} by {right.shape} out to {z.shape}")
        assert np.multiply(left.tensor, right.tensor, out=z.tensor) is z.tensor
        z.array.write(Ellipsis, result)

    # ------------------------------------------------------------------ what must stay as it is

    @rule(which=pick)
    def hand_out(self, which: int) -> None:
        array = self.get(which).tensor.detach().numpy()
        self.handed_out.append((array, array.copy()))

    @rule(which=pick)
    def remember_loss(self, which: int) -> None:
        """Keep a loss of what is alive now; it is swept at the end, after everything has been overwritten."""
        if len(self.losses) < 3:
            self.losses.append(self.loss(which))

    @rule(which=pick)
    def sweep_and_free(self, which: int) -> None:
        """Sweep without keeping the tape; what hangs on it is given up, and the leaves go on."""
        self.check_losses()
        loss, double = self.loss(which)
        if loss.requires_grad:
            self.check_gradients(loss, double, retain_graph=False)
        kept = [pair for pair in self.live if aliasing.history(pair.tensor)[0].is_leaf and pair.tensor.is_leaf]
        if kept:
            self.live = kept
        else:
            self.live.clear()
            self.leaf(which, True)

    def loss(self, salt: int) -> tuple[wg.Tensor, Scalar]:
        total, double = wg.tensor(0.0, dtype="float64"), Scalar(0.0)
        for i, pair in enumerate(self.live):
            weights = np.cos(np.arange(pair.array.cells.size) + i + salt).reshape(pair.shape)
            total = total + wg.sum(wg.sin(pair.tensor) * weights)
            for scalar, weight in zip(pair.array.scalars().ravel(), weights.ravel()):
                double = double + cells.sin(scalar) * Scalar(float(weight))
        return total, double

    @invariant()
    def values_agree(self) -> None:
        for pair in self.live:
            got = pair.tensor.detach().numpy()
            assert got.shape == pair.shape
            np.testing.assert_allclose(got, pair.array.values(), rtol=1e-11, atol=1e-11)
        for array, values in self.handed_out:
            np.testing.assert_array_equal(array, values)

    def teardown(self) -> None:
        aliasing._SMALL_PART = _SMALL_PART
        last = self.loss(self.made)
        self.losses.append(last)
        self.check_losses()
        self.check_second_order(*last)

    def check_losses(self) -> None:
        for loss, double in self.losses:
            self.check_gradients(loss, double)
        self.losses.clear()

    def check_gradients(self, loss: wg.Tensor, double: Scalar, retain_graph: bool = True) -> None:
        np.testing.assert_allclose(loss.item(), double.value, rtol=1e-10, atol=1e-10)
        if not loss.requires_grad:
            return
        for tensor, _ in self.leaves:
            tensor.grad = None
        loss.backward(retain_graph=retain_graph)
        for tensor, scalars in self.leaves:
            expected = np.array(cells.gradient(double, scalars), float)
            np.testing.assert_allclose(_flat(tensor.grad, tensor), expected, rtol=1e-8, atol=1e-8)

    def check_second_order(self, loss: wg.Tensor, double: Scalar) -> None:
        if not loss.requires_grad:
            return
        for tensor, _ in self.leaves:
            tensor.grad = None
        loss.backward(create_graph=True)
        penalty, double_penalty = wg.tensor(0.0, dtype="float64"), Scalar(0.0)
        wanted = [scalar for _, scalars in self.leaves for scalar in scalars]
        slopes = iter(cells.gradient(double, wanted, differentiable=True))
        for tensor, scalars in self.leaves:
            weights = np.cos(np.arange(len(scalars)) * 1.7)
            if tensor.grad is not None:
                penalty = penalty + wg.sum(wg.sin(tensor.grad).reshape(-1) * weights)
            for weight in weights:
                double_penalty = double_penalty + cells.sin(next(slopes)) * Scalar(float(weight))
            tensor.grad = None
        if not penalty.requires_grad:
            return
        penalty.backward()
        expected = iter(cells.gradient(double_penalty, wanted))
        for tensor, scalars in self.leaves:
            want = np.array([next(expected) for _ in scalars], float)
            np.testing.assert_allclose(_flat(tensor.grad, tensor), want, rtol=1e-6, atol=1e-6)


def _diagonal(array: np.ndarray) -> np.ndarray:
    """NumPy's diagonal, which is a view but hands it out read-only."""
    diagonal = np.diagonal(array)
    diagonal.flags.writeable = array.flags.writeable
    return diagonal


def _flat(gradient: wg.Tensor | None, tensor: wg.Tensor) -> np.ndarray:
    return np.zeros(tensor.size) if gradient is None else gradient.detach().numpy().ravel()


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
}


def _update(x: wg.Tensor, how: str, y: wg.Tensor) -> wg.Tensor:
    if how == "+":
        x += y
    elif how == "-":
        x -= y
    else:
        x *= y
    return x


Mutation.TestCase.settings = settings(stateful_step_count=20)
TestMutation = Mutation.TestCase
