"""Bad input: the error names the operation and what did not fit, at the user's line, and nothing is half-changed."""

# NumPy's stubs do not know what else answers its protocols.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.errors import DTypeError, GradientError, ShapeError

AxisError = np.exceptions.AxisError
Call = Callable[[], Any]

A, B = wg.ones((2, 3)), wg.ones((4, 5))
VECTOR, MATRIX = wg.ones(3), wg.ones((3, 3))
INTEGERS = wg.tensor([1, 2, 3])


def check(call: Call, error: type[Exception], *parts: str) -> None:
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    for part in parts:
        assert part in message, f"{part!r} is not in {message!r}"
    # The line of the user's is in the traceback, and no error of another kind is shown as the reason.
    assert any(frame.filename == __file__ for frame in traceback.extract_tb(caught.value.__traceback__))


SHAPES: dict[str, tuple[Call, tuple[str, ...]]] = {
    "add": (lambda: A + B, ("(2, 3)", "(4, 5)")),
    "subtract": (lambda: A - np.ones((4, 5)), ("(2, 3)", "(4, 5)")),
    "multiply": (lambda: np.ones((4, 5)) * A, ("(2, 3)", "(4, 5)")),
    "divide": (lambda: A / [1.0, 2.0], ("(2, 3)", "(2,)")),
    "power": (lambda: A**B, ("(2, 3)", "(4, 5)")),
    "maximum": (lambda: wg.maximum(A, B), ("(2, 3)", "(4, 5)")),
    "less": (lambda: A < B, ("(2, 3)", "(4, 5)")),
    "equal": (lambda: A == B, ("(2, 3)", "(4, 5)")),
    "where": (lambda: wg.where(A > 0, A, B), ("(2, 3)", "(4, 5)")),
    "matmul": (lambda: A @ A, ("(2, 3)", "(2, 3)")),
    "matmul ": (lambda: wg.matmul(A, 2.0), ("(2, 3)", "()")),
    "dot": (lambda: wg.dot(A, B), ("(2, 3)", "(4, 5)")),
    "einsum": (lambda: wg.einsum("ij,jk->ik", A, B), ("(2, 3)", "(4, 5)")),
    "einsum ": (lambda: wg.einsum("i,j", A, B), ("'i'", "(2, 3)")),
    "tensordot": (lambda: wg.tensordot(A, B, axes=1), ("(2, 3)", "(4, 5)")),
    "concatenate": (lambda: wg.concatenate([A, B]), ("(2, 3)", "(4, 5)")),
    "concatenate ": (lambda: wg.concatenate([]), ()),
    "stack": (lambda: wg.stack([A, B]), ("(2, 3)", "(4, 5)")),
    "split": (lambda: wg.split(A, 2, axis=1), ("3", "2")),
    "reshape": (lambda: A.reshape(4, 2), ("6", "(4, 2)")),
    "reshape ": (lambda: A.reshape(-1, 4), ("6", "(-1, 4)")),
    "reshape  ": (lambda: A.reshape(-1, -1), ("6",)),
    "broadcast_to": (lambda: wg.broadcast_to(A, (3, 3)), ("(2, 3)", "(3, 3)")),
    "tile": (lambda: wg.tile(A, -1), ("-1",)),
    "repeat": (lambda: wg.repeat(A, -1), ("-1",)),
    "squeeze": (lambda: wg.squeeze(A, 0), ("(2, 3)",)),
    "transpose": (lambda: wg.transpose(A, (0, 0)), ("(0, 0)",)),
    "matrix_transpose": (lambda: VECTOR.mT, ("(3,)",)),
    "pad": (lambda: wg.pad(A, -1), ("-1",)),
    "diag": (lambda: wg.diag(wg.ones((2, 2, 2))), ("(2, 2, 2)",)),
    "tril": (lambda: wg.tril(VECTOR), ("(3,)",)),
    "max": (lambda: wg.max(wg.ones((0, 2)), axis=0), ("(0, 2)",)),
    "argmax": (lambda: wg.argmax(wg.ones(0)), ("(0,)",)),
    "searchsorted": (lambda: wg.searchsorted(A, 1.0), ("(2, 3)",)),
    "tensor": (lambda: wg.tensor([[1.0, 2.0], [3.0]]), ("rows of different lengths",)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_do_not_fit_are_named_and_so_is_the_operation(name: str) -> None:
    call, parts = SHAPES[name]
    check(call, ShapeError, f"{name.strip()}: ", *parts)


def test_ragged_sequences_meet_an_operation() -> None:
    ragged = [[1.0, 2.0], [3.0]]
    check(lambda: A + ragged, ShapeError, "add: ", "rows of different lengths")
    check(lambda: wg.stack(ragged), ShapeError, "stack: ", "(2,)", "(1,)")


AXES: dict[str, Call] = {
    "sum": lambda: wg.sum(A, axis=2),
    "mean": lambda: wg.mean(A, axis=-3),
    "max": lambda: wg.max(A, axis=(0, 2)),
    "std": lambda: wg.std(A, axis=2),
    "argmax": lambda: wg.argmax(A, axis=2),
    "cumsum": lambda: wg.cumsum(A, axis=2),
    "sort": lambda: wg.sort(A, axis=2),
    "softmax": lambda: wg.softmax(A, axis=2),
    "logsumexp": lambda: wg.logsumexp(A, axis=2),
    "flip": lambda: wg.flip(A, 2),
    "roll": lambda: wg.roll(A, 1, axis=2),
    "moveaxis": lambda: wg.moveaxis(A, 0, 2),
    "swapaxes": lambda: wg.swapaxes(A, 0, 2),
    "expand_dims": lambda: wg.expand_dims(A, 5),
    "concatenate": lambda: wg.concatenate([A, A], axis=2),
    "stack": lambda: wg.stack([A, A], axis=4),
    "split": lambda: wg.split(A, 1, axis=2),
    "take": lambda: wg.take(A, [0], axis=2),
    "take_along_axis": lambda: wg.take_along_axis(A, INTEGERS[None], axis=2),
    "transpose": lambda: wg.transpose(A, (0, 2)),
}


@pytest.mark.parametrize("name", AXES)
def test_axes_that_do_not_exist_are_named(name: str) -> None:
    check(AXES[name], AxisError, f"{name}: ", "out of bounds")


def test_axes_that_are_no_axes() -> None:
    check(lambda: wg.sum(A, axis=1.5), TypeError, "sum: ", "1.5")
    check(lambda: wg.sum(A, axis="x"), TypeError, "sum: ", "'x'")
    check(lambda: wg.sum(A, axis=(0, -2)), ValueError, "sum: ", "(0, -2)", "twice")


INDICES: dict[str, tuple[Call, tuple[str, ...]]] = {
    "integer": (lambda: A[2], ("index 2", "size 2")),
    "negative integer": (lambda: A[0, -4], ("index -4", "size 3")),
    "too many": (lambda: A[0, 0, 0], ("too many",)),
    "array": (lambda: A[[0, 5]], ("index 5", "size 2")),
    "tensor": (lambda: A[wg.tensor([7])], ("index 7", "size 2")),
    "mask": (lambda: A[[True, False, True]], ("(3,)", "(2, 3)")),
    "mask of a matrix": (lambda: A[B > 0], ("(4, 5)", "(2, 3)")),
    "float": (lambda: A[1.5], ("1.5", "not an index")),
    "array of floats": (lambda: A[[0.5]], ("float64",)),
    "tensor of floats": (lambda: A[wg.tensor([0.5])], ("float32",)),
    "string": (lambda: A["x"], ("'x'", "not an index")),
    "two ellipses": (lambda: A[..., ...], ("ellipsis",)),
    "take": (lambda: wg.take(A, [5], axis=1), ("take: ", "5", "size 3")),
    "take_along_axis": (lambda: wg.take_along_axis(A, wg.tensor([[7]]), axis=1), ("7", "size 3")),
    "written": (lambda: A.clone().__setitem__(2, 0.0), ("index 2", "size 2")),
    "written by array": (lambda: A.clone().__setitem__([0, 5], 0.0), ("index 5", "size 2")),
}


@pytest.mark.parametrize("name", INDICES)
def test_indices_out_of_range_or_of_no_use(name: str) -> None:
    call, parts = INDICES[name]
    check(call, IndexError, *parts)


NOT_NUMERIC: dict[str, Call] = {
    "string": lambda: wg.tensor("abc"),
    "strings": lambda: wg.tensor(["a", "b"]),
    "mixed": lambda: wg.tensor([1, "b"]),
    "None": lambda: wg.tensor(None),
    "None within": lambda: wg.tensor([None, 1.0]),
    "object": lambda: wg.tensor(object()),
    "dict": lambda: wg.tensor({"a": 1}),
    "dates": lambda: wg.tensor(np.array(["2020-01-01"], "M8[D]")),
    "borrowed objects": lambda: wg.asarray(np.array([None])),
    "operand None": lambda: A + None,
    "operand string": lambda: A * "a",
    "operand on the left": lambda: "a" * A,
    "operand object": lambda: A ** object(),
    "argument": lambda: wg.sin("a"),
    "arguments": lambda: wg.maximum(A, None),
    "list with a string": lambda: wg.sin([1.0, "a"]),
    "stacked": lambda: wg.stack([VECTOR, "a"]),
    "written": lambda: A.clone().__setitem__(0, "a"),
    "written None": lambda: A.clone().__setitem__(0, None),
    "bits of floats": lambda: A & 1,
    "bits inverted": lambda: ~A,
    "shifted floats": lambda: A << 1,
    "array of strings": lambda: wg.sin(np.array(["a"])),
    "positions": lambda: wg.take(A, [0.5], axis=1),
    "occurrences": lambda: wg.bincount(VECTOR),
    "gradient of integers": lambda: wg.tensor([1, 2], requires_grad=True),
    "gradient of booleans": lambda: INTEGERS.astype(bool).requires_grad_(),
}


@pytest.mark.parametrize("name", NOT_NUMERIC)
def test_what_is_not_numeric_or_not_of_the_right_kind(name: str) -> None:
    check(NOT_NUMERIC[name], DTypeError)


def test_messages_about_dtypes_say_what_to_do() -> None:
    check(lambda: wg.tensor([1, 2], requires_grad=True), DTypeError, "int64", ".astype('float32')")
    check(lambda: A & 1, DTypeError, "bitwise_and: ", "float32")
    check(lambda: ~A, DTypeError, "invert: ", "float32")
    check(lambda: A + None, DTypeError, "add: ", "NoneType")


@pytest.mark.parametrize("ask", [bool, lambda t: not t, lambda t: t and 1, lambda t: 1 if t else 2])
def test_the_truth_value_of_several_elements_is_ambiguous(ask: Callable[[Any], Any]) -> None:
    check(lambda: ask(A > 0), ValueError, "(2, 3)", "ambiguous", ".any()", ".all()", "wg.where")
    check(lambda: ask(wg.ones(0)), ValueError, "(0,)", "ambiguous")
    ask(wg.tensor([True]))


def test_several_elements_are_no_python_number() -> None:
    for convert in (float, int, complex, lambda t: t.item()):
        check(lambda: convert(A), ValueError, "(2, 3)")  # noqa: B023
    check(lambda: range(10)[VECTOR[0]], TypeError, "integer", "float32")
    check(lambda: len(wg.tensor(1.0)), TypeError, "0-d")
    check(lambda: list(wg.tensor(1.0)), TypeError, "0-d")


# ---------------------------------------------------------------------- writes that fail change nothing


def write(key: Any, value: Any) -> Callable[[Any], Any]:
    def run(x: Any) -> Any:
        x[key] = value
        return x

    return run


def augment(name: str, value: Any) -> Callable[[Any], Any]:
    return lambda x: getattr(x, f"__i{name}__")(value)


TRACKED = wg.tensor(np.ones(3), requires_grad=True)

FAILING: dict[str, tuple[Callable[[Any], Any], type[Exception], tuple[str, ...]]] = {
    "shape": (write(0, np.ones(4)), ShapeError, ("(4,)", "(3,)")),
    "shape of a tensor": (write(slice(1, None), wg.ones((2, 2))), ShapeError, ("(2, 2)", "(1, 3)")),
    "shape for an array of positions": (write([0, 1, 0], np.ones(2)), ShapeError, ("(2,)", "(3, 3)")),
    "shape for a mask": (write(np.array([True, False]), np.ones((2, 3))), ShapeError, ("(2, 3)", "(1, 3)")),
    "index": (write(2, 0.0), IndexError, ("index 2",)),
    "one position of several": (write([0, 1, 9], 5.0), IndexError, ("index 9",)),
    "mask": (write(np.ones(3, bool), 5.0), IndexError, ("(3,)", "(2, 3)")),
    "string": (write(0, "a"), DTypeError, ("str",)),
    "None": (write(0, None), DTypeError, ("NoneType",)),
    "ragged": (write(0, [[1.0], [2.0, 3.0]]), ShapeError, ("different lengths",)),
    "number of another kind": (augment("add", 1j), DTypeError, ("complex", "float64")),
    "+= shape": (augment("add", np.ones((2, 2))), ShapeError, ("(2, 2)", "(2, 3)")),
    "+= growing": (augment("mul", np.ones((4, 2, 3))), ShapeError, ("(4, 2, 3)", "(2, 3)")),
    "+= growing, tracked": (augment("mul", TRACKED * np.ones((4, 2, 3))), ShapeError, ("(4, 2, 3)", "(2, 3)")),
    "@= of another shape": (augment("matmul", np.ones((3, 2))), ShapeError, ("(2, 2)", "(2, 3)")),
    "copy_": (lambda x: x.copy_(np.ones((3, 2))), ShapeError, ("copy_: ", "(3, 2)", "(2, 3)")),
    "out=": (lambda x: np.add(np.ones(4), wg.ones(4), out=x), ShapeError, ("(4,)", "(2, 3)")),
    "out= of tracked": (lambda x: np.sum(TRACKED * np.ones((4, 3)), axis=1, out=x), ShapeError, ("(4,)", "(2, 3)")),
    "add.at": (lambda x: np.add.at(x, [0, 7], 1.0), IndexError, ("index 7",)),
    "multiply.at": (lambda x: np.multiply.at(x, ([0, 0], [0, 7]), 2.0), IndexError, ("index 7",)),
    "put_along_axis": (lambda x: np.put_along_axis(x, np.array([[9]]), 1.0, axis=1), IndexError, ("index 9",)),
    "view": (lambda x: write(0, np.ones(4))(x.T), ShapeError, ("(4,)", "(2,)")),
    "read-only view": (lambda x: write(0, 5.0)(wg.broadcast_to(x, (4, 2, 3))), ValueError, ("read-only", "clone")),
}


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("name", FAILING)
def test_a_failed_write_changes_nothing(name: str, tracked: bool, held: bool) -> None:
    failing, error, parts = FAILING[name]
    values = np.arange(6.0).reshape(2, 3)
    source = wg.tensor(values, requires_grad=tracked)
    x = source * 1
    view, row, detached = x.T, x[0], x.detach()
    kept = x * x if held else None
    check(lambda: failing(x), error, *parts)
    for tensor, expected in ((x, values), (view, values.T), (row, values[0]), (detached, values)):
        np.testing.assert_array_equal(tensor.detach().numpy(), expected)
    assert x.requires_grad == view.requires_grad == row.requires_grad == tracked and not detached.requires_grad
    x[0, 0] = 10.0
    assert (view[0, 0].item(), row[0].item(), detached[0, 0].item()) == (10.0, 10.0, 10.0)
    if tracked:
        loss = x.sum() + view.sum() + row.sum()
        if kept is not None:
            loss = loss + kept.sum()
        loss.backward()
        expected = np.array([[0.0, 3.0, 3.0], [2.0, 2.0, 2.0]]) + (2 * values if held else 0.0)
        np.testing.assert_array_equal(source.grad.numpy(), expected)


def test_a_tracked_value_does_not_go_into_integers() -> None:
    counts = wg.tensor([1, 2, 3])
    for put in (
        lambda: counts.__setitem__(0, TRACKED[0]),
        lambda: counts.copy_(TRACKED),
        lambda: counts.__iadd__(TRACKED),
        lambda: np.add(TRACKED, 1.0, out=counts),
    ):
        check(put, DTypeError, "int64", "float64")
        assert counts.tolist() == [1, 2, 3] and not counts.requires_grad
    counts[0] = TRACKED[0].detach() * 7
    with wg.no_grad():
        counts[1] = TRACKED[0] * 9
    assert counts.tolist() == [7, 9, 3]


def test_seeds_that_do_not_fit() -> None:
    y = TRACKED * 2
    check(y.backward, GradientError, "(3,)", "not a scalar", "test_errors.py:")
    check(lambda: y.backward(wg.ones(2, dtype="float64")), ShapeError, "(2,)", "(3,)", "test_errors.py:")
    check(lambda: y.backward(wg.ones(3)), DTypeError, "float32", "float64", "test_errors.py:")
    check(lambda: wg.ones(3).backward(), GradientError, "not on the tape")
    assert TRACKED.grad is None
