"""Native code as functions of Python's own: what it is handed, what it returns, and that nothing is lost or kept."""

from __future__ import annotations

import gc
import sys
import weakref

import numpy as np

from tests.compile.native_jobs import Chain
from wengert.compile.kernels import Kernel
from wengert.compile.llvm.builtins import ANSWER, builtin
from wengert.compile.llvm.compiling import compile_for_good, module_of
from wengert.compile.llvm.program import Addresses

SOURCE = (
    ANSWER
    + """
define ptr @test_builtins_is_positive(ptr %self, ptr %nothing) {
  %words = call ptr @words(ptr %self)
  %place = getelementptr ptr, ptr %words, i64 2
  %from = load ptr, ptr %place
  %number = load i64, ptr %from
  %positive = icmp sgt i64 %number, 0
  %answer = call ptr @answer(ptr %words, i1 %positive)
  ret ptr %answer
}
"""
)


class Held:
    """Something that can be missed."""


def _address() -> int:
    name = "test_builtins_is_positive"
    return compile_for_good(module_of([Kernel(name, SOURCE, (), 1, 1)]))[name]


def test_code_is_handed_its_words_and_answers() -> None:
    number = np.array([5], np.int64)
    ask = builtin(_address(), "positive", [number.ctypes.data], number)
    assert ask()
    number[0] = -5
    assert not ask()


def test_answers_are_counted_as_references_like_any_other() -> None:
    number = np.array([5], np.int64)
    ask = builtin(_address(), "positive", [number.ctypes.data], number)
    answer = ask()
    before = sys.getrefcount(answer)
    for _ in range(1000):
        ask()
    assert sys.getrefcount(answer) == before
    kept = [ask() for _ in range(10)]
    assert sys.getrefcount(answer) == before + len(kept)


def test_what_it_needs_lives_as_long_as_it_does() -> None:
    held = Held()
    reference = weakref.ref(held)
    number = np.array([5], np.int64)
    ask = builtin(_address(), "positive", [number.ctypes.data], (number, held))
    del held
    gc.collect()
    assert reference() is not None
    assert ask()
    del ask
    gc.collect()
    assert reference() is None


def test_a_small_program_can_be_called_without_giving_the_gil_up() -> None:
    chain = Chain(64, [100] * 5, threads=2)
    x, y = np.arange(64.0), np.zeros(64)
    addresses, status = Addresses(2), np.zeros((), np.bool_)
    addresses[0], addresses[1] = x.ctypes.data, y.ctypes.data
    brief = chain.program.brief(addresses, status)
    assert brief is not None
    assert not brief()
    status[()] = True
    assert brief()
    np.testing.assert_array_equal(y, chain.expected(x))
    other = np.zeros(64)
    addresses[1] = other.ctypes.data
    assert brief()
    np.testing.assert_array_equal(other, chain.expected(x))


def test_a_program_for_several_threads_gives_the_gil_up() -> None:
    assert Chain(64, [4] * 5, threads=2).program.brief(Addresses(2)) is None
