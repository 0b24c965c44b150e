"""Native programs: order, division among threads, memory, callers at the same time."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import numpy as np
import pytest

from tests.compile.native_jobs import NOTHING, Chain, kernel
from wengert.compile.kernels import Job, Kernel, Place
from wengert.compile.llvm import arena, program
from wengert.compile.llvm.program import Addresses, NativeProgram, prepare
from wengert.compile.llvm.threads import ThreadPool, pool

SERIAL = 10**9


def dyadic(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-64, 64, n) / 64.0


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_jobs_run_in_order_and_wait_for_all_threads(threads: int) -> None:
    rng = np.random.default_rng(threads)
    for trial in range(12):
        n = int(rng.integers(2, 400))
        grains = [int(rng.choice([1, 2, 16, SERIAL])) for _ in range(int(rng.integers(1, 25)))]
        chain = Chain(n, grains, threads)
        x = dyadic(n, trial)
        for _ in range(30):
            np.testing.assert_array_equal(chain.run(x), chain.expected(x))


def test_any_number_of_threads_gives_the_same_bits() -> None:
    n, grains = 1000, [1, SERIAL, 3, 3, SERIAL, SERIAL, 1, 250, 1, 100]
    x = np.random.default_rng(0).standard_normal(n)
    results = [Chain(n, grains, threads).run(x) for threads in (1, 2, 3, 4, None)]
    for other in results[1:]:
        assert other.tobytes() == results[0].tobytes()


def test_more_threads_than_units_and_none_at_all() -> None:
    x = dyadic(3)
    chain = Chain(3, [1, 1], 4)
    assert chain.program.threads == 3
    np.testing.assert_array_equal(chain.run(x), chain.expected(x))
    empty = NativeProgram([], 0, 0)
    empty.run(Addresses(0))


def test_a_kernel_without_units_is_never_called() -> None:
    crash = kernel(NOTHING.replace("ret void", "unreachable"), 0, 1)
    jobs = [*Chain(100, [1, 1], 2).program.jobs, Job(crash, (Place(1, 0),))]
    native = NativeProgram([jobs[-1], *jobs, jobs[-1]], 1600, 2, threads=2)
    x, out, addresses = dyadic(100), np.empty(100), Addresses(2)
    addresses[:] = [x.ctypes.data, out.ctypes.data]
    native.run(addresses)
    np.testing.assert_array_equal(out, Chain(100, [1, 1], 2).expected(x))
    assert [timing.busy > 0 for timing in native.profile(addresses)] == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("units", "grain", "threads", "shares"),
    [(100, 51, 8, 1), (100, 50, 8, 2), (100, 10, 4, 4), (100, 1, 8, 8), (0, 1, 8, 1), (1, 0, 8, 1), (5, 2, 8, 2)],
)
def test_a_job_is_divided_if_each_share_has_a_grain(units: int, grain: int, threads: int, shares: int) -> None:
    assert program.shares_of(units, grain, threads) == shares


def test_addresses_may_change_between_calls() -> None:
    chain = Chain(100, [1, 1, SERIAL], 2)
    addresses, outs = Addresses(2), np.full((5, 100), np.nan)
    inputs = [dyadic(100, seed) for seed in range(5)]
    for x, out in zip(inputs, outs):
        addresses[0], addresses[1] = x.ctypes.data, out.ctypes.data
        chain.program.run(addresses)
    for x, out in zip(inputs, outs):
        np.testing.assert_array_equal(out, chain.expected(x))


def test_many_threads_call_many_programs_at_once() -> None:
    chains = [Chain(n, [1, SERIAL, 1, 16, 1], threads) for n in (64, 301) for threads in (1, 2, 3)]
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for turn in range(150):
                chain = chains[(seed + turn) % len(chains)]
                x = dyadic(chain.n, turn)
                np.testing.assert_array_equal(chain.run(x), chain.expected(x))
        except BaseException as error:
            errors.append(error)

    callers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert errors == []


def test_a_caller_whose_workers_are_taken_runs_alone() -> None:
    chain = Chain(200, [1] * 5, 3)
    x = dyadic(200)
    with pool().lock:
        np.testing.assert_array_equal(chain.run(x), chain.expected(x))


def test_workers_that_cannot_be_had_are_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: ThreadPool, thread: int) -> None:
        raise RuntimeError("can't start new thread")

    mine = ThreadPool()
    monkeypatch.setattr(ThreadPool, "_start", refuse)
    monkeypatch.setattr(program, "pool", lambda: mine)
    chain = Chain(200, [1] * 5, 3)
    x = dyadic(200)
    for _ in range(3):
        np.testing.assert_array_equal(chain.run(x), chain.expected(x))
    assert not mine.usable


def test_workers_wake_up_after_they_have_gone_to_sleep() -> None:
    chain = Chain(500, [1, 1, SERIAL, 1], 3)
    x = dyadic(500)
    for pause in (0.0, 0.001, 0.0002, 0.01, 0.0, 0.05):
        time.sleep(pause)
        np.testing.assert_array_equal(chain.run(x), chain.expected(x))


def test_what_all_programs_need_can_be_prepared_in_the_background() -> None:
    prepare()
    chain = Chain(50, [1, 1], 2)
    x = dyadic(50)
    np.testing.assert_array_equal(chain.run(x), chain.expected(x))


def test_workers_stop_and_start_again() -> None:
    chain = Chain(500, [1, 1, 1], 3)
    x = dyadic(500)
    for _ in range(5):
        np.testing.assert_array_equal(chain.run(x), chain.expected(x))
        pool().stop()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("wengert-")]


def test_programs_share_an_arena_that_goes_with_the_last_of_them() -> None:
    gc.collect()
    before = {weakref.ref(found) for found in arena._arenas}
    small, large = Chain(100, [SERIAL, SERIAL], 1), Chain(90, [SERIAL, SERIAL, SERIAL], 1)
    small.run(dyadic(100))
    large.run(dyadic(90))
    assert large.program._frames[0].arena is small.program._frames[0].arena
    alive = weakref.ref(small.program._frames[0].arena)  # type: ignore[arg-type]
    del small
    gc.collect()
    assert alive() is not None
    del large
    gc.collect()
    assert alive() is None or alive in before


@pytest.mark.parametrize("size", [0, 100, 10_000, 5 * 2**20])
def test_arenas_are_aligned(size: int) -> None:
    block = arena.Arena(size)
    assert block.address % (2**21 if size > 2**22 else 4096) == 0
    first = block._memory.ctypes.data
    assert first <= block.address
    assert block.address + size <= first + block._memory.nbytes


@pytest.mark.parametrize("place", [Place(3, 0), Place(-1, 0), Place(0, 17), Place(0, -8)])
def test_places_that_do_not_exist_are_refused(place: Place) -> None:
    with pytest.raises(ValueError, match=r"job 1, test_.*no place"):
        NativeProgram([Job(kernel(NOTHING, 1, 1), ()), Job(kernel(NOTHING, 1, 1), (place,))], 16, 2)


def test_a_profile_names_every_job_and_adds_up() -> None:
    chain = Chain(20_000, [1, SERIAL, 1], 2)
    x, out = dyadic(20_000), np.empty(20_000)
    addresses = Addresses(2)
    addresses[0], addresses[1] = x.ctypes.data, out.ctypes.data
    chain.program.profile(addresses)
    start = time.perf_counter()
    timings = chain.program.profile(addresses)
    elapsed = time.perf_counter() - start
    np.testing.assert_array_equal(out, chain.expected(x))
    assert [timing.name for timing in timings] == [job.kernel.name for job in chain.program.jobs]
    assert all([0 < timing.busy for timing in timings])
    assert sum([timing.busy for timing in timings]) <= chain.program.threads * elapsed


def test_equal_kernels_are_compiled_once() -> None:
    one, two = Chain(77, [1, 1], 1), Chain(77, [1, 1], 2)
    assert one.program._tables.alone[:, 0].tolist() == two.program._tables.alone[:, 0].tolist()


def test_scratch_is_aligned_and_each_thread_s_own() -> None:
    source = """
define void @NAME(ptr %operands, i64 %begin, i64 %end, ptr %scratch) {
  %out = load ptr, ptr %operands
  %place = getelementptr ptr, ptr %out, i64 %begin
  store ptr %scratch, ptr %place
  ret void
}
"""
    shares, size = 3, 100
    made: Kernel = kernel(source, shares, 1, scratch=size)
    native = NativeProgram([Job(made, (Place(1, 0),))], 0, 1, threads=shares)
    out, addresses = np.zeros(shares, np.int64), Addresses(1)
    addresses[0] = out.ctypes.data
    for _ in range(200):
        native.run(addresses)
        assert (out % 64 == 0).all()
        assert all([gap >= size or gap == 0 for gap in np.diff(np.sort(out))])  # one thread may do others' work
