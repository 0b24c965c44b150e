"""Recording on and off: blocks, decorators, generators, coroutines, threads, exceptions."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

import wengert as wg

x = wg.tensor(2.0, requires_grad=True)


def tracked() -> bool:
    """Return whether an operation is recorded here and now."""
    recorded = (x * x).requires_grad
    assert recorded is wg.is_grad_enabled()
    return recorded


@pytest.fixture(autouse=True)
def state_is_as_before() -> Iterator[None]:
    assert tracked()
    yield
    assert tracked()


# Blocks


def test_blocks_nest_and_end() -> None:
    with wg.no_grad():
        assert not tracked()
        with wg.enable_grad():
            assert tracked()
            with wg.no_grad():
                assert not tracked()
            assert tracked()
        assert not tracked()
    assert tracked()


def test_an_exception_ends_a_block() -> None:
    with pytest.raises(ZeroDivisionError), wg.no_grad():
        raise ZeroDivisionError
    assert tracked()


def test_one_context_manager_may_be_entered_many_times() -> None:
    off, on = wg.no_grad(), wg.enable_grad()
    with off:
        with on:
            with off:
                with on:
                    assert tracked()
                assert not tracked()
            assert tracked()
        assert not tracked()
    with off:
        assert not tracked()


def test_set_grad_enabled_as_a_function_and_as_a_block() -> None:
    wg.set_grad_enabled(False)
    assert not tracked()
    wg.set_grad_enabled(True)
    assert tracked()
    with wg.set_grad_enabled(False):
        assert not tracked()
        with wg.set_grad_enabled(True):
            assert tracked()
        assert not tracked()
    assert tracked()
    switch = wg.set_grad_enabled(False)
    assert not tracked()
    with switch:
        assert not tracked()
    assert tracked()


def test_set_grad_enabled_as_a_decorator_leaves_the_state_alone() -> None:
    @wg.set_grad_enabled(False)
    def run() -> bool:
        return tracked()

    assert tracked() and not run() and tracked()


# Decorators


def decorators() -> list[Any]:
    return [wg.no_grad, wg.no_grad()]


@pytest.mark.parametrize("decorate", decorators(), ids=["bare", "called"])
def test_a_decorated_function(decorate: Callable[..., Any]) -> None:
    @decorate
    def run(a: int, *, b: int) -> tuple[int, int, bool]:
        """Say something."""
        return a, b, tracked()

    assert run(1, b=2) == (1, 2, False)
    assert (run.__name__, run.__doc__) == ("run", "Say something.")

    @decorate
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert tracked()


def test_decorated_methods_and_recursion() -> None:
    class Model:
        @wg.no_grad
        def evaluate(self, depth: int) -> list[bool]:
            return [tracked(), *self.train(depth - 1)] if depth else []

        @wg.enable_grad()
        def train(self, depth: int) -> list[bool]:
            return [tracked(), *self.evaluate(depth - 1)] if depth else []

    assert Model().evaluate(5) == [False, True, False, True, False]


@pytest.mark.parametrize("decorate", decorators(), ids=["bare", "called"])
def test_a_decorated_generator_keeps_its_state_to_itself(decorate: Callable[..., Any]) -> None:
    closed: list[bool] = []

    @decorate
    def produce() -> Any:
        try:
            sent = yield tracked()
            while sent != "stop":
                try:
                    sent = yield (sent, tracked())
                except KeyError:
                    sent = yield ("caught", tracked())
            return "done"
        finally:
            closed.append(tracked())

    generator = produce()
    assert next(generator) is False and tracked()
    assert generator.send(1) == (1, False) and tracked()
    with wg.enable_grad():
        assert generator.throw(KeyError) == ("caught", False) and tracked()
    with wg.no_grad():
        assert generator.send(2) == (2, False) and not tracked()
    with pytest.raises(StopIteration) as stop:
        generator.send("stop")
    assert (stop.value.value, closed) == ("done", [False])

    abandoned = produce()
    next(abandoned)
    abandoned.close()
    assert closed == [False, False] and tracked()


def test_blocks_inside_of_a_decorated_generator_do_not_mix_with_those_outside() -> None:
    @wg.no_grad
    def produce() -> Iterator[bool]:
        with wg.enable_grad():
            yield tracked()
        yield tracked()

    generator = produce()
    assert next(generator) is True
    with wg.no_grad():
        assert next(generator) is False
        assert not tracked()
    assert tracked()
    assert list(generator) == [] and tracked()


def test_a_block_around_a_yield_ends_as_it_should() -> None:
    def produce() -> Iterator[int]:
        with wg.no_grad():
            yield 1

    generator = produce()
    next(generator)
    with wg.enable_grad():
        assert list(generator) == []
    assert tracked()


def test_a_decorated_generator_passes_values_through() -> None:
    @wg.no_grad
    def produce() -> Any:
        return (yield from inner())

    def inner() -> Any:
        got = yield 1
        return got * 2

    generator = produce()
    next(generator)
    with pytest.raises(StopIteration) as stop:
        generator.send(21)
    assert stop.value.value == 42


# Asynchronous code


def test_a_decorated_coroutine_keeps_its_state_while_it_sleeps() -> None:
    order: list[tuple[str, bool]] = []

    @wg.no_grad
    async def quiet() -> str:
        order.append(("quiet", tracked()))
        await asyncio.sleep(0)
        order.append(("quiet", tracked()))
        return "done"

    async def loud() -> None:
        for _ in range(3):
            order.append(("loud", tracked()))
            await asyncio.sleep(0)

    async def main() -> None:
        assert await quiet() == "done"
        assert tracked()
        await asyncio.gather(quiet(), loud())
        assert tracked()

    asyncio.run(main())
    assert {state for name, state in order if name == "quiet"} == {False}
    assert {state for name, state in order if name == "loud"} == {True}


def test_a_coroutine_driven_by_hand_leaves_no_trace_between_steps() -> None:
    class Once:
        def __await__(self) -> Generator[str, None, None]:
            yield "pause"

    @wg.no_grad
    async def quiet() -> bool:
        await Once()
        return tracked()

    coroutine = quiet()
    assert coroutine.send(None) == "pause" and tracked()
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value is False


def test_a_decorated_asynchronous_generator() -> None:
    closed: list[bool] = []

    @wg.no_grad()
    async def produce() -> AsyncIterator[Any]:
        try:
            sent = None
            for _ in range(3):
                await asyncio.sleep(0)
                try:
                    sent = yield sent, tracked()
                except KeyError:
                    sent = "caught"
        finally:
            closed.append(tracked())

    async def main() -> None:
        found = []
        async for _, state in produce():
            found.append(state)
            assert tracked()
        assert found == [False] * 3 and closed == [False]
        generator: Any = produce()
        await generator.asend(None)
        assert await generator.asend("hello") == ("hello", False)
        assert await generator.athrow(KeyError) == ("caught", False) and tracked()
        await generator.aclose()
        assert closed == [False, False] and tracked()

    asyncio.run(main())


def test_tasks_do_not_disturb_each_other() -> None:
    async def hold(switch: Any, expected: bool) -> None:
        with switch:
            for _ in range(3):
                assert tracked() is expected
                await asyncio.sleep(0)

    async def main() -> None:
        off = wg.no_grad()  # one object, in several tasks at once
        await asyncio.gather(hold(off, False), hold(wg.enable_grad(), True), hold(off, False))
        assert tracked()

    asyncio.run(main())


# Threads


def test_threads_have_states_of_their_own() -> None:
    off = wg.no_grad()
    barrier = threading.Barrier(2, timeout=30)
    found: dict[str, list[bool]] = {"off": [], "on": []}

    def quiet() -> None:
        with off:
            for _ in range(3):
                barrier.wait()
                found["off"].append(tracked())
        barrier.wait()
        found["off"].append(tracked())

    def loud() -> None:
        for _ in range(4):
            barrier.wait()
            found["on"].append(tracked())

    with wg.no_grad():  # a new thread does not inherit it
        threads = [threading.Thread(target=quiet), threading.Thread(target=loud)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {"off": [False] * 3 + [True], "on": [True] * 4}


def test_a_copied_context_takes_the_state_along() -> None:
    with wg.no_grad():
        context = contextvars.copy_context()
    assert context.run(tracked) is False


# Misuse


def test_what_cannot_be_decorated_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot decorate the class"):

        @wg.no_grad
        class Model:
            pass

    with pytest.raises(TypeError, match="takes a function to decorate, or nothing, not int"):
        wg.no_grad(1)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="True or False, not int"):
        wg.set_grad_enabled(1)  # type: ignore[arg-type]
