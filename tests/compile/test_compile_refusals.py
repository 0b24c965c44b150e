"""What cannot be compiled says so, names the cure, and leaves everything as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.twins import check_same, leaf, plain, see
from wengert import optim
from wengert.compile.api import CompileWarning
from wengert.compile.sources import CompileError


class Outside:
    """What the functions below close over."""

    def __init__(self) -> None:
        self.w = leaf(1.0, 2.0)
        self.w.grad = wg.ones(2)
        self.buffer = wg.tensor([5.0, 6.0])
        self.view = self.buffer[1:]
        self.alone = wg.ones(2)
        self.computed = self.w * 3
        self.array = np.array([1.0, 2.0], np.float32)
        self.optimizer = optim.SGD([self.w], lr=0.1, momentum=0.9)
        self.schedule = optim.StepLR(self.optimizer, 2)

    def seen(self) -> Any:
        plain(self.w, self.buffer, self.view, self.computed)
        return see(self.w, self.buffer, self.view, self.array, self.optimizer.param_groups[0]["lr"])


def asks_for_a_value(o: Outside, x: Any) -> Any:
    o.buffer.copy_(x)
    return float(x.sum())


def writes_what_is_tracked(o: Outside, x: Any) -> Any:
    o.buffer.copy_(x * o.w)
    return o.buffer.sum()


def writes_a_leaf_on_the_tape(o: Outside, x: Any) -> Any:
    (x * o.w).sum().backward()
    o.w.copy_(x * o.w)
    return x


def sweeps_out_of_the_function(o: Outside, x: Any) -> Any:
    (o.computed * x).sum().backward(retain_graph=True)
    return x


def changes_requires_grad(o: Outside, x: Any) -> Any:
    o.alone.requires_grad_()
    return x * o.alone


def changes_requires_grad_of_what_has_views(o: Outside, x: Any) -> Any:
    o.buffer.requires_grad_()
    return x * o.buffer


def steps_a_schedule_first(o: Outside, x: Any) -> Any:
    o.optimizer.zero_grad()
    (x * o.w).sum().backward()
    o.schedule.step()
    o.optimizer.step()
    return x


def keys_by_a_mask(o: Outside, x: Any) -> Any:
    o.buffer.copy_(x)
    return x[x > 0]


REFUSED: list[tuple[Callable[[Outside, Any], Any], type[Exception], str]] = [
    (asks_for_a_value, CompileError, r"known only when the compiled function runs.*wg\.where"),
    (writes_what_is_tracked, CompileError, "tracked value was written into a Tensor that was made outside"),
    (writes_a_leaf_on_the_tape, CompileError, "Return the value instead, or write it under wg.no_grad"),
    (
        sweeps_out_of_the_function,
        CompileError,
        r"computed outside of it.*detach\(\) it\), or call backward\(\) outside",
    ),
    (changes_requires_grad, CompileError, "Change it outside"),
    (changes_requires_grad_of_what_has_views, CompileError, "Change it outside"),
    (steps_a_schedule_first, CompileError, r"scheduler\.step\(\) after it"),
    (keys_by_a_mask, IndexError, "mask"),
]


@pytest.mark.parametrize(("function", "error", "message"), REFUSED, ids=[case[0].__name__ for case in REFUSED])
def test_a_refusal_changes_nothing(function: Any, error: Any, message: str) -> None:
    outside = Outside()
    before = outside.seen()
    compiled = wg.compile(lambda x: function(outside, x))
    for _ in range(3):
        x = wg.tensor([1.0, -2.0])
        with pytest.raises(error, match=f"(?s){message}"):
            compiled(x)
        plain(x)
        check_same(outside.seen(), before)


def test_arrays_that_are_arguments_are_not_written() -> None:
    def function(array: Any) -> Any:
        array += 1
        return array

    given = np.array([1.0, 2.0])
    for _ in range(2):
        with pytest.raises(CompileError, match=r"NumPy array that it is given.*Pass a Tensor"):
            wg.compile(function)(given)
    assert given.tolist() == [1.0, 2.0]


def test_what_was_printed_before_a_failure_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    def function(x: Any) -> Any:
        print("sum", x.sum())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        wg.compile(function)(wg.ones(3))
    assert capsys.readouterr().out.startswith("sum Tensor(3.")


def test_a_function_that_is_given_up_goes_on_as_it_is() -> None:
    seen: list[float] = []

    def function(x: Any) -> Any:
        seen.append(1.0)
        return x * len(seen)

    compiled = wg.compile(function)
    with pytest.warns(CompileWarning, match="a list that had .* in every run"):
        results = [compiled(wg.tensor(2.0)).item() for _ in range(5)]
    assert results == [2.0, 4.0, 6.0, 8.0, 10.0]


def test_another_thread_that_uses_a_tensor_of_a_capture_is_told_so() -> None:
    w = leaf(1.0, 2.0)
    met = threading.Event()
    go_on = threading.Event()
    found: list[Any] = []

    def function(x: Any) -> Any:
        y = x * w
        met.set()
        go_on.wait(10)
        return y

    def elsewhere() -> None:
        met.wait(10)
        try:
            w * 2
        except CompileError as error:
            found.append(str(error))
        finally:
            go_on.set()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    result = wg.compile(function)(wg.ones(2))
    thread.join()
    assert "another thread uses a Tensor of this function" in found[0]
    assert result.tolist() == [1.0, 2.0]
    plain(w)


def test_an_array_that_is_an_operand_and_read_by_numpy() -> None:
    array = np.array([1.0, 2.0])
    compiled = wg.compile(lambda x: x * array + float(array[0]))
    compiled(wg.tensor([1.0, 1.0]))
    array[0] = 5.0
    assert compiled(wg.tensor([1.0, 1.0])).tolist() == [10.0, 7.0]


def to_stretched(x: Any) -> None:
    wg.broadcast_to(x[:1], x.shape)[0] = 1.0


def to_stretched_positions(x: Any) -> None:
    wg.broadcast_to(x[:1], x.shape)[[0, 1]] = 1.0


def all_of_stretched(x: Any) -> None:
    wg.broadcast_to(x[:1], x.shape).fill_(1.0)


def added_to_stretched(x: Any) -> None:
    y = wg.broadcast_to(x[:1], x.shape)
    y += 1.0


def too_long_a_value(x: Any) -> None:
    x[:2] = wg.ones(3)


def too_long_a_value_for_positions(x: Any) -> None:
    x[[0, 1]] = wg.ones(3)


def another_length(x: Any) -> None:
    x.copy_(wg.ones(7))


def beyond_the_end(x: Any) -> None:
    x[10**7] = 1.0


def positions_beyond_the_end(x: Any) -> None:
    x[[0, 10**7]] = 1.0


def one_axis_for_another(x: Any) -> Any:
    return wg.broadcast_to(x, (3, 4))


MISTAKES = [
    *(to_stretched, to_stretched_positions, all_of_stretched, added_to_stretched, too_long_a_value),
    *(too_long_a_value_for_positions, another_length, beyond_the_end, positions_beyond_the_end, one_axis_for_another),
]


@pytest.mark.parametrize("size", [5, 10_000])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_as_without_compilation(mistake: Any, size: int) -> None:
    """Large arrays are not computed when a function is captured: what does not fit is noticed all the same."""

    def function(x: Any) -> Any:
        y = x * 1
        return mistake(y), y

    def told(called: Any, x: Any) -> str:
        with pytest.raises(Exception) as caught:
            called(x)
        return f"{caught.type.__name__}: {caught.value}"

    x = wg.tensor(np.linspace(0.0, 1.0, size))
    plain = told(function, x)
    assert told(wg.compile(function), x) == plain
    assert told(wg.compile(function), x.detach().clone().requires_grad_()) == plain
    if mistake is not one_axis_for_another:
        assert told(lambda x: wg.jvp(function, (x,), (x,)), x) == plain
        assert told(wg.vmap(function), wg.stack([x, x])) == plain


READINGS = [
    *(int, float, bool, lambda x: x.item(), lambda x: x.tolist(), lambda x: float(x.numpy())),
    *(lambda x: float(np.asarray(x)), lambda x: float(f"{x:.3f}"), lambda x: 1.0 if x else 0.0),
]


@pytest.mark.parametrize("read", READINGS)
@pytest.mark.parametrize("made", [np.array, lambda value: wg.asarray(np.array(value)), wg.tensor])
def test_values_that_python_reads_are_no_constants(made: Any, read: Any) -> None:
    """An array that is an argument is seen through as little as a Tensor: another value is another program, if any."""
    function = wg.compile(lambda x: x * 1 + read(x))
    for value in (3, 5, 0):
        assert function(made(value)).item() == value + read(wg.tensor(value))
    with pytest.raises(CompileError, match=r"test_compile_refusals\.py:\d+ asks for"):
        wg.compile(lambda x: x * 1 + read(x))(made(0.5))


def test_values_in_memory_of_arrays_that_are_closed_over_are_no_constants() -> None:
    array = np.array(3)
    lent = wg.asarray(array)
    compiled = wg.compile(lambda x: x * lent.item())
    for value in (3, 4, 4, 7):
        array[...] = value
        assert compiled(wg.tensor(2)).item() == 2 * value


def test_a_tracked_value_that_would_be_rounded_is_refused_as_without_compilation() -> None:
    w = wg.tensor(1.5, requires_grad=True)

    def function(x: Any) -> Any:
        x.copy_(w)
        return x * 1

    for called in (function, wg.compile(function)):
        with pytest.raises(wg.errors.DTypeError, match="copy_: a tracked float32 value would be rounded to bool"):
            called(wg.tensor([True, False]))
