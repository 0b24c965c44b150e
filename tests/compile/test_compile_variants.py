"""Warnings of programs that do not pay: one for each value of a number, and those of very long loops."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import wengert as wg
from wengert.compile import api, explanation
from wengert.compile.backends import CompileWarning


def _scaling() -> Callable[..., Any]:
    """Return a compiled function of a Tensor and a number."""
    return wg.compile(lambda x, number: x * number)


def test_numbers_that_never_come_back_are_told_of_once_and_run_as_they_are() -> None:
    scale = _scaling()
    x = wg.tensor([1.0, 2.0])
    numbers = [float(n) for n in range(1, 40)]
    with pytest.warns(CompileWarning, match=r"another one in nearly every call \(now 17.0\).*wg.tensor") as warned:
        results = [scale(x, number).tolist() for number in numbers]
    assert results == [[number, 2 * number] for number in numbers]
    assert len(warned) == 1
    assert repr(scale).endswith(": 16 programs>")
    # Other arguments, and numbers that have a program, are as they were.
    assert scale(wg.tensor([1.0]), 3.0).tolist() == [3.0]
    assert scale(x, 2.0).tolist() == [2.0, 4.0]
    assert repr(scale).endswith(": 17 programs>")


def test_numbers_that_come_back_have_programs_each() -> None:
    scale = _scaling()
    x = wg.tensor([1.0, 2.0])
    for number in range(1, 25):
        for _ in range(3):
            assert scale(x, number).tolist() == [number, 2 * number]
    assert repr(scale).endswith(": 24 programs>")


def test_a_tensor_in_place_of_a_number_has_one_program() -> None:
    scale = _scaling()
    x = wg.tensor([1.0, 2.0])
    for number in range(1, 40):
        assert scale(x, wg.tensor(float(number))).tolist() == [number, 2.0 * number]
    assert repr(scale).endswith(": 1 program>")


def test_a_function_that_is_given_up_is_told_of_where_it_was_called() -> None:
    runs: list[int] = []

    def counted(x: Any) -> Any:
        runs.append(1)
        return x * len(runs)

    compiled = wg.compile(counted)
    with pytest.warns(CompileWarning, match="in every run") as told:
        for _ in range(6):
            compiled(wg.tensor(1.0))
    assert [warning.filename for warning in told] == [__file__]


def test_whoever_waits_for_a_long_program_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explanation, "LONG", 100)

    def repeated(x: Any) -> Any:
        for _ in range(120):
            x = wg.sin(x)
        return x

    line = repeated.__code__.co_firstlineno + 2
    why = rf"120 operations .* 120 of them are of .*:{line}\. Loops of Python"
    with pytest.warns(CompileWarning, match=why) as told:
        wg.compile(repeated)(wg.tensor([1.0]))
    assert told[0].filename == __file__


def test_of_too_many_kinds_of_arguments_the_oldest_programs_are_dropped_and_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api, "_MOST_KINDS", 3)
    double = wg.compile(lambda x, how: x * how.factor)

    def call(size: int) -> list[float]:
        return double(wg.ones(size), how).tolist()

    how = SimpleNamespace(factor=2.0)
    with pytest.warns(CompileWarning, match="more than 3 kinds, shapes for most") as told:
        for size in (1, 2, 1, 3, 1, 4, 1, 5):
            assert call(size) == [2.0] * size
    assert len(told) == 1
    assert told[0].filename == __file__
    assert repr(double).endswith(": 3 programs>")
    report = double.explain()
    assert "2 programs were dropped: there are more than 3 kinds of arguments" in str(report)
    assert [program.number for program in report.programs] == [1, 4, 5]
    assert call(1) == [2.0]  # it was called again and again
    assert repr(double).endswith(": 3 programs>")
    assert call(2) == [2.0] * 2
    assert double.explain().programs[-1].number == 6
    assert call(1) == [2.0]


def test_code_of_programs_that_are_gone_leaves_the_process() -> None:
    def made(size: int) -> weakref.ref[Any]:
        function = wg.compile(lambda x: wg.tanh(x).sum(0) + size)
        function(wg.ones((3, size)))
        (paths,) = function._paths.values()
        (program,) = [each.program for each in paths[0].program._segments]
        return weakref.ref(program._codes[0])

    gone = made(1013)
    gc.collect()
    assert gone() is None
