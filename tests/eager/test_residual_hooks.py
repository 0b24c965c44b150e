"""`saved_residuals_hooks`: every array that the tape keeps goes through pack and unpack, and gradients stay right."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.core.lines import grad_of, here
from wengert.core import tape
from wengert.core.primitive import REGISTRY
from wengert.core.tape import Node
from wengert.declare import Sample, fastpath, opaque
from wengert.errors import GradientError
from wengert.testing.samples import cases


def leaf(*values: float) -> Any:
    return wg.tensor(list(values) if len(values) != 1 else values[0], dtype="float64", requires_grad=True)


class Box:
    """Something that is neither a Tensor nor an array, so that nothing works on it by chance."""

    def __init__(self, tensor: Any) -> None:
        self.values = tensor.numpy().copy()


class Hooks:
    """Packs into boxes, and notes what went in and out."""

    def __init__(self) -> None:
        self.packed: list[Any] = []
        self.unpacked: list[Any] = []

    def pack(self, tensor: Any) -> Box:
        assert isinstance(tensor, wg.Tensor) and not tensor.requires_grad and not wg.is_grad_enabled()
        box = Box(tensor)
        self.packed.append(box.values.tolist())
        return box

    def unpack(self, box: Box) -> Any:
        self.unpacked.append(box.values.tolist())
        return wg.tensor(box.values)

    def block(self) -> Any:
        return wg.saved_residuals_hooks(self.pack, self.unpack)


@pytest.fixture(autouse=True)
def recorders_are_plain_again() -> Any:
    yield
    gc.collect()
    assert fastpath.Node is Node and tape.Entry is Node


def program(x: Any, y: Any) -> Any:
    """A bit of everything: fan-out, broadcasting, views, writes, reductions, several outputs, joining, numbers."""
    h = wg.tanh(wg.matmul(x, y)) * 2.0 + x[0]
    h[1] = wg.exp(h[0])
    h *= wg.concatenate([x, y])[:2].T[:2, :2] if h.shape == (2, 2) else 1.0
    low, high = wg.split(h, 2) if hasattr(wg, "split") else (h[:1], h[1:])
    return wg.sum(low / (high * high + 3.0)) + wg.logsumexp(h) + wg.prod(x)


def arguments() -> tuple[Any, Any]:
    return (
        wg.tensor([[0.5, -1.0], [2.0, 0.25]], dtype="float64", requires_grad=True),
        wg.tensor([[1.5, 0.5], [-0.75, 1.0]], dtype="float64", requires_grad=True),
    )


def test_a_program_has_the_gradient_that_it_has_without() -> None:
    x, y = arguments()
    program(x, y).backward()
    hooks, (u, v) = Hooks(), arguments()
    with hooks.block():
        out = program(u, v)
    assert hooks.packed and not hooks.unpacked
    out.backward()
    assert hooks.unpacked
    np.testing.assert_array_equal(grad_of(u).numpy(), grad_of(x).numpy())
    np.testing.assert_array_equal(grad_of(v).numpy(), grad_of(y).numpy())


def test_differentiable_sweeps_hang_on_the_tape_where_the_values_did() -> None:
    results: list[Any] = []
    for block in (None, Hooks().block()):
        x, y = arguments()
        if block is None:
            out = program(x, y)
        else:
            with block:
                out = program(x, y)
        first = wg.autograd.grad(out, [x, y], create_graph=True)
        second = wg.autograd.grad(wg.sum(first[0] * first[1] * first[1]), [x, y], create_graph=True)
        third = wg.autograd.grad(wg.sum(second[0] * second[1]), [x, y])
        results.append([t.detach().numpy() for t in (*first, *second, *third)])
    for plain, packed in zip(*results):
        np.testing.assert_allclose(packed, plain, rtol=1e-12)


@pytest.mark.parametrize("tracked", [False, True])
def test_every_operation(tracked: bool) -> None:
    """Each primitive of the registry on its own samples, in raw and in differentiable sweeps."""

    def gradients(primitive: Any, case: Any, hooks: Hooks | None) -> list[Any]:
        args = list(case.arrays)
        for i in case.moving:
            args[i] = wg.tensor(args[i], requires_grad=True)
        inputs = [args[i] for i in case.moving]
        if hooks is None:
            outs = primitive.call(*args, **case.params)
        else:
            with hooks.block():
                outs = primitive.call(*args, **case.params)
        outs = [o for o in (outs if isinstance(outs, tuple) else (outs,)) if o.requires_grad]
        if not outs:
            return []
        seeds = [wg.cos(wg.astype(wg.reshape(wg.arange(o.size), o.shape), o.dtype)) for o in outs]
        bars = wg.autograd.grad(tuple(outs), inputs, tuple(seeds), create_graph=tracked, allow_unused=True)
        return [None if bar is None else bar.detach().numpy() for bar in bars]

    seen = 0
    with np.errstate(all="ignore"):
        for primitive in REGISTRY:
            if primitive.kind == "nondifferentiable":
                continue
            for case in cases(primitive)[:2]:
                if not all(case.arrays[i].dtype.kind == "f" for i in case.moving if hasattr(case.arrays[i], "dtype")):
                    continue
                if not all(isinstance(case.arrays[i], np.ndarray) for i in case.moving):
                    continue
                hooks = Hooks()
                plain, packed = gradients(primitive, case, None), gradients(primitive, case, hooks)
                seen += bool(hooks.packed)
                for one, other in zip(plain, packed, strict=True):
                    np.testing.assert_array_equal(other, one, err_msg=f"{primitive.name} {case}")
    assert seen > 100


def test_what_is_packed() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    hooks = Hooks()
    with hooks.block():
        y = x * w
        wg.exp(y)
        x * x
        wg.sum(x)
        w * 2.0
    assert hooks.packed == [[1.0, 2.0], [3.0, 4.0], np.exp([3.0, 8.0]).tolist(), [1.0, 2.0]]


@pytest.fixture(scope="module")
def both() -> Iterator[Any]:
    """Declare an operation that returns and keeps (exp(x), x * x), and take it off the registry again."""

    @opaque(samples=[Sample((2,))], multiple=True)
    def growth_and_square(xp: Any, x: Any) -> Any:
        return xp.exp(x), x * x

    @growth_and_square.vjp
    def growth_and_square_vjp(out_bar: Any, x: Any, out: Any) -> Any:
        return out_bar[0] * out[0] + 2.0 * x * out_bar[1]

    @growth_and_square.jvp
    def growth_and_square_jvp(x: Any, x_dot: Any, out: Any) -> Any:
        return out[0] * x_dot, 2.0 * x * x_dot

    @growth_and_square.batched
    def growth_and_square_batched(xp: Any, x: Any) -> Any:
        return growth_and_square(x)

    REGISTRY.seal()
    yield growth_and_square
    del REGISTRY._primitives["growth_and_square"]


def test_several_outputs_are_packed_one_by_one(both: Any) -> None:
    hooks, x = Hooks(), leaf(0.5, 2.0)
    with hooks.block():
        u, v = both(x)
    assert hooks.packed == [[0.5, 2.0], np.exp([0.5, 2.0]).tolist(), [0.25, 4.0]]
    (first,) = wg.autograd.grad(u.sum() + v.sum(), x, create_graph=True)
    (second,) = wg.autograd.grad(first.sum(), x)
    np.testing.assert_allclose(first.detach().numpy(), np.exp([0.5, 2.0]) + np.array([1.0, 4.0]))
    np.testing.assert_allclose(second.numpy(), np.exp([0.5, 2.0]) + 2)


def test_nothing_untracked_or_outside_is_packed() -> None:
    x = leaf(1.0, 2.0)
    hooks = Hooks()
    before = x * x
    with hooks.block():
        with wg.no_grad():
            x * x
        wg.tensor([1.0]) * 2
    after = x * x
    (before + after).sum().backward()
    assert not hooks.packed and not hooks.unpacked


def test_a_packed_array_is_let_go() -> None:
    x = leaf(*range(10))
    with wg.saved_residuals_hooks(Box, lambda box: wg.tensor(box.values)):
        h = x * 2.0
        gone = weakref.ref(h._data)
        y = wg.sin(h)
        del h
    assert gone() is None
    y.sum().backward()
    np.testing.assert_allclose(grad_of(x).numpy(), 2 * np.cos(2 * np.arange(10.0)))


def test_what_was_packed_dies_with_the_node_and_with_the_sweep() -> None:
    def died() -> list[bool]:
        return [reference() is None for reference in alive]

    alive: list[Any] = []

    def pack(tensor: Any) -> Box:
        box = Box(tensor)
        alive.append(weakref.ref(box))
        return box

    x = leaf(1.0, 2.0)
    with wg.saved_residuals_hooks(pack, lambda box: wg.tensor(box.values)):
        y = wg.sin(x).sum()
        z = wg.cos(x)
        assert died() == [False, False]
        del z
        assert died() == [False, True]
    y.backward(retain_graph=True)
    assert died() == [False, True]
    y.backward()
    assert died() == [True, True]
    with pytest.raises(GradientError, match="second time"):
        y.backward()


def test_each_pull_unpacks_once() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    hooks = Hooks()
    with hooks.block():
        y = wg.sum(x * w)
    for count in (1, 2, 3):
        wg.autograd.grad(y, [x], retain_graph=True)
        assert len(hooks.unpacked) == 2 * count
    x, w, b = wg.ones((2, 3)).requires_grad_(), wg.ones((4, 3)).requires_grad_(), wg.ones(4).requires_grad_()
    hooks = Hooks()
    with hooks.block():
        y = wg.linear(x, w, b)
    y.backward(wg.ones((2, 4)))  # a seed may hold zeros, so that the guarded pull runs
    assert len(hooks.unpacked) == 2


def test_straight_paths_keep_nothing_besides() -> None:
    for call in (
        lambda x: wg.nn.functional.cross_entropy(x, wg.tensor([0, 2])),
        lambda x: wg.sum(wg.layer_norm(x, 3, wg.ones(3, dtype="float64"), wg.ones(3, dtype="float64")) ** 2),
    ):
        x = wg.tensor([[1.0, 2.0, 0.5], [0.0, 1.0, -1.0]], dtype="float64", requires_grad=True)
        call(x).backward()
        y = wg.tensor(x.detach().numpy(), requires_grad=True)
        hooks = Hooks()
        with hooks.block():
            out = call(y)
        kept = [entry for entry in gc.get_objects() if type(entry).__name__ == "_Kept"]
        assert not kept
        out.backward()
        np.testing.assert_allclose(grad_of(y).numpy(), grad_of(x).numpy(), rtol=1e-12)


def test_writes_before_the_sweep_do_not_show() -> None:
    x = leaf(1.0, 2.0, 3.0)
    with wg.saved_residuals_hooks(lambda t: t, lambda t: t):
        h = x * 1.0
        y = h * h
        h[0] = 100.0
        z = wg.sum(y) + wg.sum(h * h)
    h += 1000.0
    z.backward()
    assert grad_of(x).tolist() == [2.0, 8.0, 12.0]


def test_views() -> None:
    x = wg.tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
    hooks = Hooks()
    with hooks.block():
        y = wg.sum(wg.sin(x.T[1:, ::2]))
    assert np.shape(hooks.packed[0]) == (3, 2)
    y.backward()
    expected = np.zeros((3, 4))
    expected[::2, 1:] = np.cos(np.arange(12.0).reshape(3, 4)[::2, 1:])
    np.testing.assert_allclose(grad_of(x).numpy(), expected)


def test_gradient_tape_and_grad() -> None:
    hooks, x = Hooks(), wg.tensor(3.0)
    with hooks.block(), wg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x * x
    assert tape.gradient(y, x).item() == tape.gradient(y, x).item() == 27.0
    with hooks.block():
        assert wg.grad(wg.grad(lambda x: x * x * x))(2.0).item() == 12.0
    with hooks.block():
        _, pullback = wg.vjp(lambda x: x * x, 3.0)
    assert pullback(1.0)[0].item() == pullback(1.0)[0].item() == 6.0


# Which hooks


def test_the_innermost_block_decides() -> None:
    x = leaf(1.0, 2.0)
    outer, inner = Hooks(), Hooks()
    with outer.block():
        wg.sin(x)
        with inner.block():
            wg.cos(x)
        wg.exp(x)
    assert (len(outer.packed), len(inner.packed)) == (2, 1)


def test_hooks_do_not_see_their_own_computations() -> None:
    x = leaf(1.0, 2.0)
    seen: list[Any] = []

    def pack(tensor: Any) -> Any:
        with wg.enable_grad():
            tracked = tensor.requires_grad_()
            halves = wg.sin(tracked) * 0 + tensor
        seen.append(halves)
        return halves.detach()

    with wg.saved_residuals_hooks(pack, lambda t: t):
        y = wg.sin(x).sum()
    assert len(seen) == 1
    y.backward()
    np.testing.assert_allclose(grad_of(x).numpy(), np.cos([1.0, 2.0]))


def test_one_block_may_be_entered_again_and_decorate() -> None:
    hooks, x = Hooks(), leaf(1.0, 2.0)
    block = hooks.block()

    @block
    def sine(x: Any) -> Any:
        """Documented."""
        return wg.sin(x)

    with block, block:
        wg.cos(x)
    wg.cos(x)
    sine(x)
    assert len(hooks.packed) == 2
    assert sine.__doc__ == "Documented."


@pytest.mark.parametrize("bad", [int, 3])
def test_only_functions_are_decorated(bad: Any) -> None:
    with pytest.raises(TypeError, match="decorates functions"):
        Hooks().block()(bad)


def test_generators_are_not_decorated() -> None:
    def generate() -> Any:
        yield 1

    with pytest.raises(TypeError, match="`with` block inside of it"):
        Hooks().block()(generate)
    with pytest.raises(TypeError, match="pack must be a function"):
        wg.saved_residuals_hooks(3, str)  # type: ignore[arg-type]


def test_other_threads_are_not_in_the_block() -> None:
    hooks, x = Hooks(), leaf(1.0, 2.0)
    failures: list[Any] = []

    def work() -> None:
        try:
            y = wg.sin(x).sum()
            assert wg.autograd.grad(y, x)[0].tolist() == np.cos([1.0, 2.0]).tolist()
        except BaseException as error:
            failures.append(error)

    with hooks.block():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert not failures and not hooks.packed


def test_threads_enter_and_leave_at_any_time() -> None:
    failures: list[Any] = []

    def work(seed: int) -> None:
        try:
            for i in range(60):
                hooks, x = Hooks(), leaf(1.0 + seed, 2.0)
                with hooks.block():
                    y = wg.sin(x).sum()
                if i % 3 == seed % 3:
                    wg.sin(x)
                assert len(hooks.packed) == 1
                y.backward()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# What goes wrong


def test_an_error_in_pack_ends_the_operation() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    h = x * w

    def refuse(tensor: Any) -> Any:
        raise OSError("the disk is full")

    before = h._node
    with wg.saved_residuals_hooks(refuse, refuse):
        for operation in (
            lambda: h * w,
            lambda: wg.matmul(h, w),
            lambda: h.__imul__(w),
            lambda: wg.linear(wg.reshape(h, (1, 2)), wg.ones((2, 2)).requires_grad_(), wg.ones(2)),
        ):
            with pytest.raises(OSError, match="disk is full"):
                operation()
    assert h._node is before and h.tolist() == [3.0, 8.0]
    h.sum().backward()
    assert grad_of(x).tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: wg.zeros(3, dtype="float64"), r"shape \(3,\) and dtype float64 .* has shape \(2,\) and dtype float64"),
        (lambda: wg.zeros(2, dtype="float32"), r"shape \(2,\) and dtype float32"),
        (lambda: "nothing", "an object of type str"),
        (lambda: None, "an object of type NoneType"),
    ],
)
@pytest.mark.parametrize("create_graph", [False, True])
def test_what_unpack_returns_is_checked(answer: Callable[[], Any], message: str, create_graph: bool) -> None:
    x = leaf(1.0, 2.0)
    with wg.saved_residuals_hooks(lambda tensor: None, lambda packed: answer()):
        y, line = wg.sin(x), here()
    with pytest.raises(GradientError, match=message) as caught:
        y.sum().backward(create_graph=create_graph)
    assert "a residual of sin" in str(caught.value) and line in str(caught.value)
    assert x.grad is None


def test_an_error_in_unpack_says_where() -> None:
    x = leaf(1.0, 2.0)

    def lost(packed: Any) -> Any:
        raise KeyError("lost")

    with wg.saved_residuals_hooks(lambda tensor: None, lost):
        y, line = wg.sin(x), here()
    with pytest.raises(KeyError) as caught:
        y.sum().backward()
    assert any("sin" in note and line in note for note in caught.value.__notes__)


@pytest.mark.parametrize("convert", [np.array, wg.asarray, lambda a: wg.tensor(a, requires_grad=True) * 1.0])
def test_unpack_may_return_other_arrays(convert: Callable[[Any], Any]) -> None:
    x = leaf(1.0, 2.0)
    scratch = np.zeros(2)

    def unpack(values: Any) -> Any:
        scratch[:] = values
        return convert(scratch)

    with wg.saved_residuals_hooks(lambda t: t.numpy().copy(), unpack):
        y = wg.sum(wg.sin(x) * wg.exp(x))
    (first,) = wg.autograd.grad(y, x, create_graph=True)
    scratch[:] = np.nan
    (second,) = wg.autograd.grad(first.sum(), x)
    np.testing.assert_allclose(second.numpy(), 2 * np.exp([1.0, 2.0]) * np.cos([1.0, 2.0]))
