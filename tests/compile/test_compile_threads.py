"""Threads that call compiled functions while another one is captured: they wait, but not for who waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.compile import gate as gates
from wengert.compile.gate import Gate
from wengert.compile.sources import CompileError

LIMIT = 60.0
"""Seconds after which a test fails in place of waiting for ever."""


def _in_time(work: Callable[[], Any]) -> Any:
    """Return what `work` returns, in a thread that need not come to an end."""
    outcome: Future[Any] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome.result(LIMIT)


def _compute(rounds: int) -> None:
    for _ in range(rounds):
        np.sort(np.arange(1000.0))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "_PATIENCE", 0.2)


@pytest.mark.parametrize("is_known", [False, True])
def test_a_captured_function_may_wait_for_a_thread_that_calls_a_compiled_one(is_known: bool) -> None:
    """The thread's function is captured already, or would be now: it runs as it is."""
    inner = wg.compile(lambda x: wg.sum(x * 3.0))
    given = wg.tensor([1.0, 2.0])
    if is_known:
        inner(given)

    def outer(x: Any) -> Any:
        with ThreadPoolExecutor(1) as threads:
            threads.submit(inner, given).result()
        return x + 1.0

    compiled = wg.compile(outer)
    results = _in_time(lambda: [compiled(wg.tensor([5.0])).tolist() for _ in range(2)])
    assert results == [[6.0], [6.0]]
    assert inner(given).item() == 9.0


def test_a_thread_that_needs_a_tensor_of_the_captured_function_is_told_so() -> None:
    shared = wg.tensor([1.0, 2.0])
    inner = wg.compile(lambda: wg.sum(shared * 3.0))

    def outer() -> Any:
        doubled = shared * 2.0
        with ThreadPoolExecutor(1) as threads:
            threads.submit(inner).result()
        return doubled

    with pytest.raises(CompileError, match="before there are other threads"):
        _in_time(wg.compile(outer))
    assert inner().item() == 9.0


def test_who_computes_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that takes its time when it is captured does not send others off."""
    monkeypatch.setattr(gates, "_PATIENCE", 0.4)
    calls: list[str] = []
    start = time.thread_time()
    _compute(1000)
    rounds = int(1000 * 0.8 / (time.thread_time() - start))  # twice as long as others are patient

    def slow(x: Any) -> Any:
        begun.set()
        _compute(rounds)
        calls.append("slow")
        return x * 2.0

    def quick(x: Any) -> Any:
        calls.append("quick")
        return x * 3.0

    begun = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(wg.compile(slow), wg.tensor([1.0]))
        assert begun.wait(LIMIT)
        assert wg.compile(quick)(wg.tensor([1.0])).tolist() == [3.0]
        assert first.result(LIMIT).tolist() == [2.0]
    assert calls == ["slow", "quick"]


def test_the_gate_lets_many_pass_and_one_alone() -> None:
    gate = Gate()
    assert gate.enter()
    assert gate.enter()
    alone = threading.Event()

    def close() -> None:
        assert gate.close()
        alone.set()
        gate.open()

    waiting = threading.Thread(target=close)
    waiting.start()
    gate.leave()
    assert not alone.wait(0.1)
    gate.leave()
    assert alone.wait(LIMIT)
    waiting.join(LIMIT)
