"""NumPy's own functions on Tensors: the same values, shapes and dtypes as on arrays, and on the tape."""

# NumPy's stubs do not know what else answers its protocols.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.errors import DTypeError, GradientError, NotDifferentiableError, ShapeError

A = np.array([[1.0, 2.5, 3.0], [4.0, 5.5, 6.25]])
B = np.array([[0.5, 2.0, 3.0], [4.0, 5.0, 9.0]])
MASK = A > 2.75

# Calls whose result must be tracked if t is.
DIFFERENTIABLE: dict[str, Callable[[Any, Any], Any]] = {
    "unary": lambda t, u: np.sin(t),
    "another name": lambda t, u: np.conj(np.abs(np.acos(t / 10))),
    "binary": lambda t, u: np.arctan2(t, u),
    "array on the left": lambda t, u: np.add(A, t),
    "scalar on the left": lambda t, u: np.power(2.0, t),
    "list on the left": lambda t, u: np.subtract([1.0, 2.0, 3.0], t),
    "array operator": lambda t, u: A * t - B / t,
    "NumPy's scalar operator": lambda t, u: np.float64(2) * t / np.int64(3) - np.float64(1) ** t,
    "reflected power": lambda t, u: A**t,
    "reflected matmul": lambda t, u: A.T @ t,
    "matmul": lambda t, u: np.matmul(t, u.T),
    "dot": lambda t, u: np.dot(t, u.T),
    "inner": lambda t, u: np.inner(t, u),
    "outer": lambda t, u: np.outer(t[0], u[0]),
    "tensordot": lambda t, u: np.tensordot(t, u, axes=2),
    "einsum": lambda t, u: np.einsum("ij,kj->ik", t, u),
    "einsum, optimized": lambda t, u: np.einsum("ij,kj", t, u, optimize=True),
    "norm": lambda t, u: np.linalg.norm(t),
    "norm along an axis": lambda t, u: np.linalg.norm(t, ord=1, axis=1, keepdims=True),
    "diagonal of linalg": lambda t, u: np.linalg.diagonal(np.stack([t, u])),
    "trace of linalg": lambda t, u: np.linalg.trace(np.stack([t, u])),
    "reduce add": lambda t, u: np.add.reduce(t),
    "reduce add, options": lambda t, u: np.add.reduce(t, axis=(0, 1), keepdims=True, initial=10.0),
    "reduce add, masked": lambda t, u: np.add.reduce(t, axis=1, where=MASK),
    "reduce multiply": lambda t, u: np.multiply.reduce(t, axis=1),
    "reduce maximum": lambda t, u: np.maximum.reduce(t, axis=None),
    "reduce maximum, masked": lambda t, u: np.maximum.reduce(t, axis=1, where=MASK, initial=-5.0),
    "reduce logaddexp": lambda t, u: np.logaddexp.reduce(t, axis=1),
    "reduce what has no name": lambda t, u: np.subtract.reduce(t, axis=1, keepdims=True),
    "accumulate add": lambda t, u: np.add.accumulate(t, axis=1),
    "accumulate what has no name": lambda t, u: np.hypot.accumulate(t, axis=1),
    "reduceat": lambda t, u: np.add.reduceat(t, [0, 2, 1], axis=1),
    "outer of a ufunc": lambda t, u: np.multiply.outer(t, u[0]),
    "sum": lambda t, u: np.sum(t, axis=0, keepdims=True),
    "sum, positional": lambda t, u: np.sum(t, 1),
    "sum, masked": lambda t, u: np.sum(t, where=MASK, initial=1.0),
    "sum, dtype": lambda t, u: np.sum(t, dtype="float32"),
    "mean": lambda t, u: np.mean(t, axis=1),
    "std": lambda t, u: np.std(t, axis=1, ddof=1),
    "var": lambda t, u: np.var(t),
    "prod": lambda t, u: np.prod(t, axis=0),
    "max": lambda t, u: np.max(t, axis=0),
    "amax": lambda t, u: np.amax(t),
    "amin": lambda t, u: np.amin(t, 1, keepdims=True),
    "cumsum": lambda t, u: np.cumsum(t),
    "cumprod": lambda t, u: np.cumprod(t, axis=1),
    "average": lambda t, u: np.average(t, axis=0, weights=[1.0, 2.0]),
    "median": lambda t, u: np.median(t, axis=1),
    "sort": lambda t, u: np.sort(t, axis=0),
    "clip": lambda t, u: np.clip(t, 2.0, 4.5),
    "clip, new names": lambda t, u: np.clip(t, min=2.0),
    "clip, old names": lambda t, u: np.clip(t, a_min=None, a_max=4.5),
    "where": lambda t, u: np.where(MASK, t, u),
    "where, scalar": lambda t, u: np.where(MASK, t, 0.0),
    "concatenate": lambda t, u: np.concatenate([t, u], axis=1),
    "concatenate, flat": lambda t, u: np.concatenate((u, t, A), axis=None),
    "concat": lambda t, u: np.concat([A, t]),
    "stack": lambda t, u: np.stack([u, t], axis=-1),
    "vstack": lambda t, u: np.vstack([t, u]),
    "hstack": lambda t, u: np.hstack((t, u)),
    "append": lambda t, u: np.append(t, u, axis=0),
    "block": lambda t, u: np.block([[t, u], [u, t]]),
    "split": lambda t, u: np.split(t, [1], axis=1),
    "array_split": lambda t, u: np.array_split(t, 2, axis=1),
    "tile": lambda t, u: np.tile(t, (2, 1)),
    "repeat": lambda t, u: np.repeat(t, 2, axis=1),
    "roll": lambda t, u: np.roll(t, 1, axis=1),
    "pad": lambda t, u: np.pad(t, 1),
    "pad, constant": lambda t, u: np.pad(t, ((0, 1), (1, 0)), constant_values=3.0),
    "tril": lambda t, u: np.tril(t),
    "diag": lambda t, u: np.diag(t[0]),
    "diagonal": lambda t, u: np.diagonal(t, 1),
    "trace": lambda t, u: np.trace(t),
    "reshape": lambda t, u: np.reshape(t, (3, 2)),
    "ravel": lambda t, u: np.ravel(t),
    "transpose": lambda t, u: np.transpose(t),
    "transpose, axes": lambda t, u: np.transpose(t, (1, 0)),
    "permute_dims": lambda t, u: np.permute_dims(t, axes=(1, 0)),
    "moveaxis": lambda t, u: np.moveaxis(t, 0, 1),
    "swapaxes": lambda t, u: np.swapaxes(t, 0, 1),
    "expand_dims": lambda t, u: np.expand_dims(t, (0, 2)),
    "squeeze": lambda t, u: np.squeeze(t[None]),
    "flip": lambda t, u: np.flip(t, 1),
    "rot90": lambda t, u: np.rot90(t),
    "broadcast_to": lambda t, u: np.broadcast_to(t, (2, 2, 3)),
    "broadcast_arrays": lambda t, u: np.broadcast_arrays(t, t[0]),
    "atleast_3d": lambda t, u: np.atleast_3d(t),
    "take": lambda t, u: np.take(t, [0, 2], axis=1),
    "take_along_axis": lambda t, u: np.take_along_axis(t, np.array([[0], [1]]), axis=1),
    "copy": lambda t, u: np.copy(t),
    "astype": lambda t, u: np.astype(t, np.float32),
    "nan_to_num": lambda t, u: np.nan_to_num(t),
    "full_like": lambda t, u: np.full_like(B, t[0, 0]) if isinstance(t, np.ndarray) else np.full_like(u, t[0, 0]),
    "linspace": lambda t, u: np.linspace(t[0, 0], t[0, 1], 3),
    "dtype of a ufunc": lambda t, u: np.add(t, u, dtype="float32", casting="same_kind"),
    "signature of a ufunc": lambda t, u: np.add(t, 2, signature="dd->d"),
    "real": lambda t, u: np.real(t),
    "round": lambda t, u: np.around(t * 0.97, 1),
}

# Calls without derivative: the result is never tracked, and nothing is refused.
CONSTANT: dict[str, Callable[[Any, Any], Any]] = {
    "shape": lambda t, u: np.shape(t),
    "ndim": lambda t, u: np.ndim(t),
    "size": lambda t, u: np.size(t),
    "size of an axis": lambda t, u: np.size(t, 1),
    "zeros_like": lambda t, u: np.zeros_like(t),
    "zeros_like, other shape": lambda t, u: np.zeros_like(t, shape=(2,)),
    "ones_like": lambda t, u: np.ones_like(t, dtype="float32"),
    "full_like": lambda t, u: np.full_like(t, 7.0),
    "array_equal": lambda t, u: np.array_equal(t, t),
    "array_equiv": lambda t, u: np.array_equiv(t, u),
    "allclose": lambda t, u: np.allclose(t, u),
    "isclose": lambda t, u: np.isclose(t, u),
    "iscomplexobj": lambda t, u: np.iscomplexobj(t),
    "result_type": lambda t, u: np.result_type(t, np.float32),
    "may_share_memory": lambda t, u: np.may_share_memory(t, t),
    "array2string": lambda t, u: np.array2string(t),
    "array_repr": lambda t, u: np.array_repr(t),
    "array_str": lambda t, u: np.array_str(t),
    "comparison": lambda t, u: np.less(t, u),
    "comparison, reflected": lambda t, u: A < t,
    "where, one argument": lambda t, u: np.where(t > 2),
    "argmax": lambda t, u: np.argmax(t, axis=1),
    "argsort": lambda t, u: np.argsort(t),
    "argpartition": lambda t, u: np.argpartition(t, 1),
    "searchsorted": lambda t, u: np.searchsorted(np.array([1.0, 3.0]), t),
    "digitize": lambda t, u: np.digitize(t, np.array([1.0, 3.0])),
    "nonzero": lambda t, u: np.nonzero(t),
    "count_nonzero": lambda t, u: np.count_nonzero(t),
    "any": lambda t, u: np.any(t > 5),
    "all, reduced": lambda t, u: np.logical_and.reduce(t > 1, axis=1),
    "isnan": lambda t, u: np.isnan(t),
    "signbit": lambda t, u: np.signbit(t),
}


def agree(mine: Any, numpys: Any) -> None:
    if isinstance(numpys, (list, tuple)):
        assert len(mine) == len(numpys)
        for one, other in zip(mine, numpys):
            agree(one, other)
    elif isinstance(mine, wg.Tensor):
        got = mine.detach().numpy()
        assert got.shape == np.shape(numpys)
        assert got.dtype == np.asarray(numpys).dtype
        np.testing.assert_allclose(got, numpys, rtol=1e-12, atol=1e-12)
    else:
        assert not isinstance(mine, np.ndarray)
        assert mine == numpys


def tensors_in(value: Any) -> list[wg.Tensor]:
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors_in(item)]
    return [value] if isinstance(value, wg.Tensor) else []


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_the_function_stays_on_the_tape(name: str) -> None:
    call = DIFFERENTIABLE[name]
    expected = call(A, B)
    t, u = wg.tensor(A, requires_grad=True), wg.tensor(B)
    result = call(t, u)
    agree(result, expected)
    assert all(tensor.requires_grad for tensor in tensors_in(result))
    # Moving t along a direction moves the result as the gradient says.
    weights = [np.cos(np.arange(y.size)).reshape(y.shape) for y in tensors_in(result)]
    total: Any = wg.tensor(0.0)
    for y, w in zip(tensors_in(result), weights):
        total = total + wg.sum(y * w)
    total.backward()
    direction, step = np.sin(1 + np.arange(6)).reshape(2, 3), 1e-6

    def moved(amount: float) -> float:
        out = call(A + amount * direction, B)
        outs = out if isinstance(out, (list, tuple)) else [out]
        return sum(float(np.sum(np.asarray(y, float) * w)) for y, w in zip(outs, weights))

    if "float32" not in {str(y.dtype) for y in tensors_in(result)}:
        slope = (moved(step) - moved(-step)) / (2 * step)
        np.testing.assert_allclose(np.sum(t.grad.numpy() * direction), slope, rtol=1e-6, atol=1e-6)
    agree(call(t.detach(), u), expected)
    assert not any(y.requires_grad for y in tensors_in(call(t.detach(), u)))


@pytest.mark.parametrize("name", CONSTANT)
def test_what_has_no_derivative_is_answered_all_the_same(name: str) -> None:
    result = CONSTANT[name](wg.tensor(A, requires_grad=True), wg.tensor(B))
    assert not any(y.requires_grad for y in tensors_in(result))
    if not isinstance(result, (bool, wg.Tensor)) or name not in ("array_equal", "allclose"):
        agree(result, CONSTANT[name](A, B))
    else:
        assert bool(result) == CONSTANT[name](A, B)


# ---------------------------------------------------------------------- what has no operation

WITHOUT_OPERATION: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "function": ("np.cov", lambda t: np.cov(t)),
    "of linalg": ("np.linalg.eigvals", lambda t: np.linalg.eigvals(t[:, :2])),
    "of fft": ("np.fft.fft", lambda t: np.fft.fft(t)),
    "ufunc": ("np.spacing", lambda t: np.spacing(t)),
    "method of a ufunc": ("np.nextafter.outer", lambda t: np.nextafter.outer(t, t)),
    "nested in a list": ("np.histogramdd", lambda t: np.histogramdd([t[0], t[1]], bins=2)),
    "of the same name elsewhere": ("np.lib.scimath.sqrt", lambda t: np.lib.scimath.sqrt(t)),
    "by an argument": ("np.reshape", lambda t: np.reshape(t, (3, 2), order="F")),
    "several results": ("np.frexp", lambda t: np.frexp(t)),
}


@pytest.mark.parametrize("case", WITHOUT_OPERATION)
def test_a_function_without_operation_is_refused_if_a_gradient_would_be_lost(case: str) -> None:
    name, call = WITHOUT_OPERATION[case]
    t = wg.tensor(A, requires_grad=True)
    with pytest.raises(NotDifferentiableError, match=f"^{name} .*leave the tape.*test_numpy_functions.py:.*[Dd]etach"):
        call(t)
    agree(call(t.detach()), call(A))
    with wg.no_grad():
        agree(call(t), call(A))


def test_a_function_that_converts_its_arguments_itself_names_the_cure() -> None:
    t = wg.tensor(A, requires_grad=True)
    for convert in (np.array, np.asarray, lambda x: np.array([x, x]), lambda x: np.array([x[0, 0], 1.0])):
        with pytest.raises(GradientError, match=r"test_numpy_functions.py:.*detach\(\)\.numpy\(\).*wg\.stack"):
            convert(t)
        assert isinstance(convert(t.detach()), np.ndarray)


# ---------------------------------------------------------------------- out=, where=


def test_out_is_written_in_place_and_returned() -> None:
    t, out = wg.tensor(A, requires_grad=True), wg.tensor(np.zeros((2, 3)))
    view = out[0]
    assert np.multiply(t, 2.0, out=out) is out
    assert np.add.reduce(t, axis=0, out=view) is view
    assert np.sum(t, axis=1, out=out[:, 0]) is not None
    out.sum().backward()
    agree(out, np.array([[6.5, 8.0, 9.25], [15.75, 11.0, 12.5]]))
    assert t.grad.tolist() == [[1.0, 2.0, 2.0], [1.0, 4.0, 4.0]]


@pytest.mark.parametrize(
    "call",
    [
        lambda x, y, out: np.add(x, y, out),
        lambda x, y, out: np.add(x, y, out=(out,)),
        lambda x, y, out: np.concatenate([x[:1], y[1:]], out=out),
        lambda x, y, out: np.cumsum(x, axis=1, out=out),
        lambda x, y, out: np.clip(x, 2, 3, out=out),
        lambda x, y, out: np.matmul(x, np.eye(3), out=out),
        lambda x, y, out: np.stack([x[0], y[0]], out=out),
    ],
)
def test_every_way_of_giving_out(call: Callable[..., Any]) -> None:
    expected = np.zeros((2, 3))
    call(A, B, expected)
    for tracked in (False, True):
        out = wg.tensor(np.zeros((2, 3)))
        assert call(wg.tensor(A, requires_grad=tracked), wg.tensor(B), out) is out
        agree(out, expected)
        assert out.requires_grad == tracked
    array = np.zeros((2, 3))
    assert call(wg.tensor(A), wg.tensor(B), array) is array
    np.testing.assert_array_equal(array, expected)
    with pytest.raises(GradientError, match=r"tracked result cannot be written into a NumPy array.*asarray"):
        call(wg.tensor(A, requires_grad=True), wg.tensor(B), array)


def test_out_of_several_results() -> None:
    t = wg.tensor(A)
    whole = wg.tensor(np.zeros((2, 3)))
    fraction, same = np.modf(t, out=(None, whole))
    assert same is whole
    agree((fraction, same), np.modf(A))


def test_an_array_augmented_by_a_tracked_tensor_is_refused_and_stays_as_it_was() -> None:
    t, array = wg.tensor(A, requires_grad=True), A.copy()
    with pytest.raises(GradientError, match="cannot be written into a NumPy array"):
        array += t
    np.testing.assert_array_equal(array, A)
    array += t.detach()
    np.testing.assert_array_equal(array, 2 * A)


def test_out_of_another_shape_or_dtype() -> None:
    t = wg.tensor(A, requires_grad=True)
    with pytest.raises(ShapeError, match=r"\(2, 3\).*\(3,\)"):
        np.add(t, 1.0, out=wg.zeros(3))
    with pytest.raises(DTypeError, match=r"float64.*int64"):
        np.add(t, 1.0, out=wg.zeros((2, 3), dtype="int64"))
    with pytest.raises(DTypeError, match=r"float64.*float32"):
        np.add(t, 1.0, out=wg.zeros((2, 3)), casting="safe")
    larger = wg.zeros((2, 2, 3), dtype="float64")
    agree(np.add(t, 1.0, out=larger), np.add(A, 1.0, out=np.zeros((2, 2, 3))))


def test_where_leaves_the_rest_of_out_as_it_was() -> None:
    t, out = wg.tensor(A - 3, requires_grad=True), wg.tensor(B, requires_grad=True) * 1
    mask = A > 3
    np.sqrt(t, where=mask, out=out)
    expected = B.copy()
    np.sqrt(A - 3, where=mask, out=expected)
    agree(out, expected)
    out.sum().backward()
    np.testing.assert_allclose(t.grad.numpy(), np.where(mask, 0.5 / np.sqrt(np.where(mask, A - 3, 1)), 0))


def test_where_without_out_gives_zeros_elsewhere() -> None:
    t = wg.tensor(A, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.log(t - 3, where=A > 3.5).tolist()[0] == [0.0, 0.0, 0.0]


# ---------------------------------------------------------------------- at, and functions that write


@pytest.mark.parametrize("ufunc", [np.add, np.subtract, np.multiply, np.maximum, np.divide, np.hypot])
@pytest.mark.parametrize(
    "key", [np.array([0, 2, 0, 0]), (np.array([1, 1, 1, 0]),), slice(0, 4), np.array([[0, 1], [1, 0]])]
)
def test_at_applies_again_where_positions_repeat(ufunc: np.ufunc, key: Any) -> None:
    array, values = np.linspace(1.0, 2.0, 5), np.linspace(0.5, 3.0, 4)
    if isinstance(key, np.ndarray) and key.ndim == 2:
        values = values.reshape(2, 2)
    start, tracked = wg.tensor(array, requires_grad=True), wg.tensor(values, requires_grad=True)
    target = start * 1
    assert ufunc.at(target, key, tracked) is None
    expected = array.copy()
    ufunc.at(expected, key, values)
    agree(target, expected)
    (target * np.arange(5.0)).sum().backward()

    def moved(amount: float) -> float:
        out = array + amount
        ufunc.at(out, key, values + amount * 2)
        return float(np.sum(out * np.arange(5.0)))

    slope = (moved(1e-6) - moved(-1e-6)) / 2e-6
    np.testing.assert_allclose(start.grad.numpy().sum() + 2 * tracked.grad.numpy().sum(), slope, rtol=1e-6)


def test_at_of_one_argument_and_on_an_array() -> None:
    t = wg.tensor(A[0].copy(), requires_grad=True) * 1
    np.negative.at(t, [0, 0, 1])
    agree(t, np.array([1.0, -2.5, 3.0]))
    array = np.zeros(3)
    np.add.at(array, [0, 0], wg.tensor([1.0, 2.0]))
    assert array.tolist() == [3.0, 0.0, 0.0]
    with pytest.raises(GradientError, match=r"np.add.at"):
        np.add.at(array, [0, 0], t[:2])


WRITING: dict[str, Callable[[Any, Any], None]] = {
    "copyto": lambda t, v: np.copyto(t, v[:, None]),
    "copyto, masked": lambda t, v: np.copyto(t, v[:, None], where=MASK),
    "copyto, number": lambda t, v: np.copyto(t, 3),
    "fill_diagonal": lambda t, v: np.fill_diagonal(t, v),
    "fill_diagonal, wrapped": lambda t, v: np.fill_diagonal(t.T, v, wrap=True),
    "put": lambda t, v: np.put(t, [0, 4, 0], v),
    "place": lambda t, v: np.place(t, MASK, v),
    "putmask": lambda t, v: np.putmask(t, MASK, v),
    "put_along_axis": lambda t, v: np.put_along_axis(t, np.array([[0, 2], [1, 0]]), v, axis=1),
}


@pytest.mark.parametrize("name", WRITING)
def test_functions_that_write_write_tensors(name: str) -> None:
    write = WRITING[name]
    expected, values = A.copy(), np.array([7.0, 8.0])
    write(expected, values)
    t, v = wg.tensor(A, requires_grad=True), wg.tensor(values, requires_grad=True)
    target = t * 1
    view = target[1]
    write(target, v)
    agree(target, expected)
    agree(view, expected[1])
    target.sum().backward()
    written = np.zeros((2, 3))
    write(written, np.array([np.inf, np.inf]))
    np.testing.assert_array_equal(t.grad.numpy(), (written == 0) & (expected == A))
    marks = np.zeros((2, 3))
    for i in range(2):
        unit = np.zeros(2)
        unit[i] = 1
        marks[...] = 0
        write(marks, unit)
        if name != "copyto, number":
            assert v.grad[i].item() == marks.sum()


def test_functions_that_write_refuse_what_they_cannot_write() -> None:
    t, array = wg.tensor(A, requires_grad=True), np.zeros((2, 3))
    with pytest.raises(GradientError, match=r"np.copyto"):
        np.copyto(array, t)
    with pytest.raises(DTypeError, match=r"np.copyto.*float64.*int64"):
        np.copyto(wg.zeros((2, 3), dtype="int64"), wg.tensor(A))
    np.copyto(array, t.detach())
    np.testing.assert_array_equal(array, A)


# ---------------------------------------------------------------------- operators with what is no array


@pytest.mark.parametrize("other", [None, "a", object(), {}])
def test_what_is_no_array_differs_from_every_element(other: Any) -> None:
    t = wg.tensor([1.0, 2.0], requires_grad=True)
    assert (t == other).tolist() == [False, False]
    assert (t != other).tolist() == [True, True]
    assert bool(wg.tensor(1.0) == other) is False
    assert wg.tensor(1.0) not in [other]


@pytest.mark.parametrize(
    "left", [np.ones(2), np.float64(3), np.float32(3), np.int64(3), 3, 3.0, True, [1, 2], (1.0, 2.0)]
)
def test_whatever_is_on_the_left_the_result_is_a_tensor(left: Any) -> None:
    t = wg.tensor([1.0, 2.0], requires_grad=True)
    operand = np.asarray(left) if isinstance(left, (list, tuple)) else left
    array = np.array([1.0, 2.0], np.float32)
    for result, expected in (
        (left * t, operand * array),
        (left - t, operand - array),
        (left / t, operand / array),
        (left**t, operand**array),
    ):
        assert isinstance(result, wg.Tensor) and result.requires_grad
        np.testing.assert_allclose(result.detach().numpy(), expected, rtol=1e-6)
    assert isinstance(left < t, wg.Tensor)


def test_another_library_may_answer_first() -> None:
    class Other:
        def __array_ufunc__(self, *_args: Any, **_kwargs: Any) -> str:
            return "ufunc"

        def __array_function__(self, *_args: Any, **_kwargs: Any) -> str:
            return "function"

    t = wg.tensor([1.0, 2.0])
    assert np.add(t, Other()) == "ufunc"
    assert np.concatenate([t, Other()]) == "function"
