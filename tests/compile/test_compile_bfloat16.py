"""`compute_dtype=wg.bfloat16`: products of rounded factors, summed in float32; all else as it is without."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.product_samples import Array, nearest_bfloat16

UNIT = 2.0**-8
"""Most that rounding to bfloat16 changes a number by, relatively."""
EPS = float(np.finfo(np.float32).eps)
SHAPES = [
    ((64, 48), (48, 40)),
    ((5, 32, 34), (34, 70)),
    ((2, 3, 40, 32), (2, 3, 32, 36)),
    ((128, 16), (16, 32)),
    ((50, 202), (202, 100)),
    ((40, 1200), (1200, 64)),
]
THIN = [((31, 64), (64, 64)), ((64, 64), (64, 10)), ((64, 14), (14, 64)), ((64, 65), (65, 64)), ((64,), (64, 64))]


def narrow(function: Callable[..., Any]) -> Any:
    return wg.compile(function, compute_dtype=wg.bfloat16)


def random(shape: tuple[int, ...], dtype: Any = "f4") -> Array:
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


def demand_rounded(out: Any, a: Array, b: Array) -> None:
    """Make sure that an array is the product of rounded factors but for the sums' rounding, and hence near a @ b."""
    got = np.asarray(out).astype("f8")
    rounded = nearest_bfloat16(a).astype("f8"), nearest_bfloat16(b).astype("f8")
    assert (
        np.abs(got - rounded[0] @ rounded[1]) <= a.shape[-1] * EPS * (np.abs(rounded[0]) @ np.abs(rounded[1]))
    ).all()
    wide, terms = a.astype("f8") @ b.astype("f8"), np.abs(a).astype("f8") @ np.abs(b)
    error = np.abs(got - wide)
    assert (error <= ((1 + UNIT) ** 2 * (1 + a.shape[-1] * EPS) - 1) * terms).all()
    assert error.max() > a.shape[-1] * EPS * terms.max(), "nothing was rounded"


@pytest.mark.parametrize(("left", "right"), SHAPES)
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True)])
def test_products_are_of_rounded_factors(left: Any, right: Any, turned: tuple[bool, bool]) -> None:
    a, b = random(left), random(right)
    given = [np.ascontiguousarray(x.swapaxes(-1, -2)) if over else x for x, over in zip((a, b), turned)]

    @narrow
    def product(x, y):
        x, y = (z.swapaxes(-1, -2) if over else z for z, over in zip((x, y), turned))
        return x @ y

    demand_rounded(product(*map(wg.tensor, given)), a, b)


def test_rows_of_a_batch_count_together_where_they_lie_so() -> None:
    a, b = random((5, 8, 34)), random((34, 70))
    demand_rounded(narrow(wg.matmul)(wg.tensor(a), wg.tensor(b)), a, b)


def test_epilogues_are_of_float32() -> None:
    a, b, bias = random((64, 96)), random((96, 80)), random((80,))
    fused = narrow(lambda x, y, z: wg.tanh(x @ y + z))(*map(wg.tensor, (a, b, bias)))
    inner = nearest_bfloat16(a).astype("f8") @ nearest_bfloat16(b) + bias
    bound = 96 * EPS * (np.abs(nearest_bfloat16(a)) @ np.abs(nearest_bfloat16(b)) + np.abs(bias)) + 8 * EPS
    assert (np.abs(np.asarray(fused) - np.tanh(inner)) <= bound).all()


@pytest.mark.parametrize(("left", "right"), THIN)
def test_thin_and_short_products_are_what_they_were(left: Any, right: Any) -> None:
    a, b = wg.tensor(random(left)), wg.tensor(random(right))
    np.testing.assert_array_equal(np.asarray(narrow(wg.matmul)(a, b)), np.asarray(wg.compile(wg.matmul)(a, b)))


def test_float64_and_elementwise_work_are_what_they_were() -> None:
    a, b = random((64, 64), "f8"), random((64, 64), "f8")

    def work(x):
        return x @ b, wg.sum(x * x, axis=0), wg.exp(x)

    for one, other in zip(narrow(work)(wg.tensor(a)), wg.compile(work)(wg.tensor(a))):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_gradients_are_products_of_rounded_factors_too() -> None:
    a, b, seed = random((64, 96)), random((96, 80)), random((64, 80))
    for inside in (True, False):
        x, y = wg.tensor(a, requires_grad=True), wg.tensor(b, requires_grad=True)

        def loss(x, y, inside=inside):
            total = (x @ y * seed).sum()
            if inside:
                total.backward()
            return total.detach() if inside else total

        total = narrow(loss)(x, y)
        if not inside:
            total.backward()
        demand_rounded(x.grad, seed, b.T)
        demand_rounded(y.grad, a.T, seed)
        assert x.grad is not None and x.grad.dtype == np.float32


def test_convolutions_of_one_element_are_products() -> None:
    images, kernels, seed = random((3, 64, 8, 9)), random((48, 64, 1, 1)), random((3, 48, 8, 9))
    weights = kernels[:, :, 0, 0]
    x, w = wg.tensor(images, requires_grad=True), wg.tensor(kernels)

    @narrow
    def pointwise(x):
        out = wg.conv2d(x, w)
        (out * seed).sum().backward()
        return out.detach()

    out = np.asarray(pointwise(x)).reshape(3, 48, 72)
    demand_rounded(out, weights, images.reshape(3, 64, 72))
    demand_rounded(np.asarray(x.grad).reshape(3, 64, 72), weights.T, seed.reshape(3, 48, 72))


MOVES = [
    ((2, 16, 9, 10), (24, 16, 3, 3), {"padding": 1}),
    ((2, 32, 11, 7), (32, 16, 3, 2), {"groups": 2, "stride": (2, 1)}),
    ((1, 18, 8, 8), (16, 18, 2, 2), {"dilation": 2, "padding": 2}),
    ((3, 16, 40), (16, 16, 5), {"stride": 2, "padding": 2}),
    ((2, 3, 20, 20), (8, 3, 5, 5), {"stride": 2, "padding": 2}),
]


@pytest.mark.parametrize(("images", "kernels", "moves"), MOVES)
def test_convolutions_and_their_gradients_are_of_rounded_factors(images: Any, kernels: Any, moves: Any) -> None:
    convolve = wg.conv2d if len(images) == 4 else wg.conv1d
    given = [random(images), random(kernels)]
    shape = convolve(*map(wg.tensor, given), **moves).shape
    seed, bias = random(shape), random((shape[1],) + (1,) * (len(shape) - 2))

    def work(x, w, y):
        sums = convolve(x, w, **moves)
        wg.sum(sums * y).backward()
        return sums.detach(), wg.relu(sums.detach() + bias)

    def outcome(function, arrays):
        x, w = [wg.tensor(array, requires_grad=True) for array in arrays[:2]]
        sums, after = function(x, w, wg.tensor(arrays[2]))
        return [np.asarray(out) for out in (sums, x.grad, w.grad, after)]

    got = outcome(narrow(work), [*given, seed])
    rounded = [nearest_bfloat16(array) for array in (*given, seed)]
    want = outcome(work, [array.astype("f8") for array in rounded])
    size = outcome(work, [abs(array).astype("f8") for array in rounded])
    exact = outcome(work, [array.astype("f8") for array in (*given, seed)])
    terms = [given[1][0].size, given[1].size // given[1].shape[1], seed.size // seed.shape[1]]
    for out, right, most, plain, count in zip(got, want, size, exact, terms):
        assert out.dtype == np.float32
        assert (np.abs(out - right) <= (count + 1) * EPS * most).all()
        assert np.abs(out - plain).max() > (count + 1) * EPS * most.max(), "nothing was rounded"
    np.testing.assert_array_equal(got[3], np.maximum(got[0] + bias, 0))


def test_convolutions_of_single_channels_and_short_sums_are_what_they_were() -> None:
    for images, kernels in [((2, 3, 9, 9), (8, 3, 2, 2)), ((2, 16, 9, 9), (16, 1, 3, 3)), ((2, 1, 9, 9), (4, 1, 5, 5))]:
        x, w = wg.tensor(random(images)), wg.tensor(random(kernels))
        groups = images[1] // kernels[1]

        def work(x, w, groups=groups):
            return wg.conv2d(x, w, groups=groups)

        np.testing.assert_array_equal(np.asarray(narrow(work)(x, w)), np.asarray(wg.compile(work)(x, w)))


def test_what_branches_ask_is_of_float32() -> None:
    x, ones = wg.full((64, 64), 1 + 2.0**-9), wg.ones((64, 64))  # rounds to one

    @narrow
    def chosen(x):
        product = x @ ones
        return (product, wg.tensor(1.0)) if (product.max() > 64.0).item() else (product, wg.tensor(0.0))

    for _ in range(2):
        product, answer = chosen(x)
        assert answer.item() == 1.0
        np.testing.assert_array_equal(np.asarray(product), np.full((64, 64), 64.0, "f4"))


def test_special_values_pass() -> None:
    a, b = random((48, 64)), random((64, 40))
    a[4, 35], a[18, 0], b[3, 20], a[7, 3] = np.inf, np.nan, -np.inf, 0.0
    a[30, 1] = np.finfo(np.float32).max  # rounds to infinity
    with np.errstate(invalid="ignore", over="ignore"):
        want = nearest_bfloat16(a) @ nearest_bfloat16(b)
        got = np.asarray(narrow(wg.matmul)(wg.tensor(a), wg.tensor(b)))
    assert np.isnan(want).any() and np.isinf(want[30]).any()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(got[np.isinf(want)], want[np.isinf(want)])
    assert np.isfinite(got[np.isfinite(want)]).all()


def rounded(array: Array) -> Array:
    return nearest_bfloat16(array) if array.dtype == np.float32 else array


def losses(wrapped: Callable[..., Any], change: Callable[[Array], Array], steps: int = 40) -> tuple[Array, Any]:
    """Train a small classifier; return its losses and its parameters. `change` is of data and first parameters."""
    wg.random.seed(3)
    model = wg.nn.Sequential(
        wg.nn.Linear(32, 64), wg.nn.GELU(), wg.nn.Linear(64, 48), wg.nn.Tanh(), wg.nn.Linear(48, 32)
    )
    model.load_state_dict({name: change(value.detach().numpy()) for name, value in model.state_dict().items()})
    optimizer = wg.optim.Adam(model.parameters(), lr=3e-3)
    data = random((96, 32))
    labels = wg.tensor((data @ random((32, 32))).argmax(1))
    x = wg.tensor(change(data))

    @wrapped
    def step():
        optimizer.zero_grad()
        loss = wg.nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return np.array([step().item() for _ in range(steps)]), model


def test_training_stays_as_close_as_data_and_parameters_of_bfloat16_would_let_it() -> None:
    plain, _ = losses(wg.compile, np.asarray)
    control, _ = losses(wg.compile, rounded)
    found, model = losses(narrow, np.asarray)
    # A step rounds 18 factors of nine products, the control four arrays: in that proportion, if all go the same way.
    assert np.abs(found - plain).max() <= 18 / 4 * np.abs(control - plain).max()
    assert 0 < np.abs(found - plain).max() and found[-1] < plain[0] / 2
    weights = model[0].weight.detach().numpy()
    assert weights.dtype == np.float32 and (weights != nearest_bfloat16(weights)).any(), "parameters are of float32"


def test_runs_give_the_same_bits() -> None:
    first, model = losses(narrow, np.asarray, 6)
    again, other = losses(narrow, np.asarray, 6)
    np.testing.assert_array_equal(first, again)
    for one, two in zip(model.parameters(), other.parameters()):
        np.testing.assert_array_equal(one.detach().numpy(), two.detach().numpy())


def test_explain_says_which_products_are_rounded() -> None:
    function = narrow(lambda x, y: (wg.tanh(x @ y), x @ y[:, :8]))
    function(wg.ones((64, 64)), wg.ones((64, 64)))
    told = str(function.explain())
    assert "rounded to bfloat16" in told
    names = [kernel.name for kernel in function.explain().programs[0].kernels]
    assert len([name for name in names if "bfloat16" in name]) == 1


@pytest.mark.parametrize("dtype", [wg.bfloat16, "bfloat16", None, np.float32, "float32", wg.float32])
def test_dtypes_to_compute_in(dtype: Any) -> None:
    x = wg.full((64, 64), 1 + 2.0**-9)
    compiled = wg.compile(compute_dtype=dtype)(lambda x: x @ x)
    is_narrow = dtype in (wg.bfloat16, "bfloat16")
    np.testing.assert_array_equal(np.asarray(compiled(x)) == 64.0, np.full((64, 64), is_narrow))


@pytest.mark.parametrize("dtype", [np.float64, "float16", "brain", 16, object()])
def test_others_are_refused(dtype: Any) -> None:
    for compiler in (wg.compile, wg.compile(compute_dtype=None).func):
        with pytest.raises(TypeError, match=r"compute_dtype is wg\.bfloat16, float32 or None"):
            compiler(wg.sin, compute_dtype=dtype)


@pytest.mark.parametrize(
    "use",
    [np.dtype, lambda t: wg.zeros(3, dtype=t), lambda t: wg.ones(2).astype(t), wg.set_default_dtype],
    ids=["dtype", "zeros", "astype", "default"],
)
def test_there_are_no_arrays_of_bfloat16(use: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"compute_dtype=wg\.bfloat16"):
        use(wg.bfloat16)


def test_bfloat16_is_one_object() -> None:
    assert repr(wg.bfloat16) == "wengert.bfloat16"
    assert copy.deepcopy(wg.bfloat16) is wg.bfloat16 is pickle.loads(pickle.dumps(wg.bfloat16))
    assert np.dtype("f4") != wg.bfloat16
