"""Compiling kernels: in parallel, in the background, once, and with errors that leave nothing behind."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from weakref import WeakValueDictionary

import numpy as np
import pytest

import wengert as wg
from tests.compile.native_jobs import Chain, gather, kernel
from wengert.compile.llvm import compiling, program
from wengert.compile.llvm.compiling import (
    EXPLICIT,
    SCALAR,
    Code,
    begin_kernels,
    compile_for_good,
    compile_kernels,
    compile_object,
    module_of,
)

WRONG = """
define void @NAME(ptr %operands, i64 %begin, i64 %end, ptr %scratch) {
  ret i32 %nothing
}
"""


def at_once(work: Callable[[], object]) -> None:
    """Do something in four threads at the same time."""
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """See that code is compiled, and not found on disk."""
    monkeypatch.setattr(compiling, "_disk", lambda: None)
    yield


def test_code_made_beside_other_threads_is_the_same() -> None:
    sources = [module_of([gather(size, 0.5, 1)]).source for size in range(5000, 5040)]
    alone = [compile_object(source, EXPLICIT) for source in sources]
    found: list[list[bytes]] = []

    def work() -> None:
        found.append([compile_object(source, EXPLICIT) for source in sources])

    at_once(work)
    assert found == [alone] * 4


def test_callers_at_the_same_time_get_the_same_addresses() -> None:
    kernels = [gather(size, 0.25, 1) for size in range(6000, 6012)]
    found: list[dict[str, Code]] = []
    at_once(lambda: found.append(compile_kernels(kernels)))
    assert len(found) == 4
    assert all([each == found[0] for each in found])
    assert len({code.address for code in found[0].values()}) == len(kernels)


def test_compilation_can_begin_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WENGERT_NUM_THREADS", "2")
    kernels = [gather(size, 0.125, 1) for size in range(7000, 7005)]
    begin_kernels(kernels)
    begin_kernels(kernels[:2])
    deadline = time.monotonic() + 20
    while compiling._compilers[0]._queue and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not compiling._compilers[0]._queue  # though nobody has asked for the code yet
    compiled = compile_kernels(kernels)
    assert set(compiled) == {kernel.name for kernel in kernels}
    assert compile_kernels(kernels) == compiled


def test_one_thread_compiles_without_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WENGERT_NUM_THREADS", "1")
    before = threading.active_count()
    kernels = [gather(size, 2.0, 1) for size in range(8000, 8003)]
    begin_kernels(kernels)
    assert threading.active_count() <= before
    assert len(compile_kernels(kernels)) == 3


def test_an_error_is_the_caller_s_and_leaves_nothing_behind() -> None:
    wrong, right = kernel(WRONG, 1, 1), gather(9000, 0.5, 1)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"LLVM IR parsing error"):
            compile_kernels([wrong, right])
    assert right.name in compile_kernels([right])


def test_kernels_that_were_compiled_are_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = gather(9100, 0.5, 1)
    code = compile_kernels([made])
    monkeypatch.setattr(compiling, "compile_object", None)
    assert compile_kernels([made, made]) == code
    assert compile_for_good(module_of([made])) == {made.name: code[made.name].address}


def test_code_that_nobody_holds_leaves_the_process() -> None:
    kernels = [gather(size, 0.5, 1) for size in (9200, 9201)]
    first, second = [compile_kernels([made])[made.name] for made in kernels]
    before = compiling._taken_mappings()
    del first
    assert compiling._taken_mappings() < before
    assert [made.name in compiling._compilers[0].codes for made in kernels] == [False, True]
    assert compile_kernels(kernels)[kernels[1].name] is second


def test_code_for_good_stays() -> None:
    made = module_of([gather(9300, 0.5, 1)])
    addresses = compile_for_good(made)
    gc.collect()
    assert compile_for_good(made) == addresses
    assert compiling._compilers[0].codes[made.exports[0]].address == addresses[made.exports[0]]


def test_threads_that_compile_and_drop_the_same_kernels() -> None:
    kernels = [gather(size, 0.75, 1) for size in range(9400, 9404)]
    names = {made.name for made in kernels}
    found: list[bool] = []

    def work() -> None:
        found.extend([compile_kernels(kernels).keys() == names for _ in range(25)])

    at_once(work)
    assert found == [True] * 100


def test_what_is_begun_and_never_asked_for_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "MOST_WAITING", 3)
    compiler = compiling._compilers[0]
    for size in range(9500, 9512):
        begin_kernels([gather(size, 0.5, 1)])
        compiler.pause()
    assert len(compiler._tasks) <= 4
    made = gather(9500, 0.5, 1)
    assert made.name in compile_kernels([made])


def test_what_waits_to_be_compiled_is_dropped_unless_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "MOST_WAITING", 3)
    monkeypatch.setattr(compiling, "available_cores", lambda: 1)  # nothing is compiled in the background
    compiler = compiling.Compiler(WeakValueDictionary())
    modules = [module_of([gather(size, 0.5, 1)]) for size in range(9600, 9610)]
    for module in modules:
        compiler.begin([module], EXPLICIT)
    assert len(compiler._queue) == len(compiler._tasks) <= 4
    found = compiler.finish(modules, EXPLICIT)
    assert sorted(found) == sorted([module.exports[0] for module in modules])


def test_nothing_to_compile() -> None:
    assert compile_kernels([]) == {}


@pytest.mark.parametrize("pipeline", [EXPLICIT, SCALAR])
def test_every_pipeline_compiles_to_an_object(pipeline: compiling.Pipeline) -> None:
    module = module_of([gather(9200, 0.5, 1)])
    assert module.exports[0].encode() in compile_object(module.source, pipeline)


def functions_of(chain: Chain) -> set[int]:
    tables = chain.program._tables
    return {*tables.chunks[:, 0].tolist(), *tables.alone[:, 0].tolist()}


def test_quick_code_is_replaced_by_better_code_of_the_same_bits() -> None:
    x = np.random.default_rng(0).standard_normal(9301)
    chain = Chain(9301, [1, 1, 10**9], 2, quick=True)
    before = functions_of(chain)
    first = chain.run(x)
    assert functions_of(chain) == before  # nothing is compiled again for what is called once
    deadline = time.monotonic() + 20
    while chain.program._makeshift and time.monotonic() < deadline:
        assert chain.run(x).tobytes() == first.tobytes()
    assert not functions_of(chain) & before
    assert chain.run(x).tobytes() == first.tobytes()
    assert functions_of(Chain(9301, [1, 1, 10**9], 2)) == functions_of(chain)
    assert functions_of(Chain(9301, [1, 1, 10**9], 2, quick=True)) == functions_of(chain)


def test_a_program_can_be_made_to_settle() -> None:
    chain = Chain(9302, [1, 10**9], 2, quick=True)
    before = functions_of(chain)
    chain.program.settle()
    assert not functions_of(chain) & before
    x = np.arange(9302.0)
    np.testing.assert_array_equal(chain.run(x), chain.expected(x))
    chain.program.settle()


def test_code_is_replaced_while_several_threads_run_it() -> None:
    chain = Chain(9303, [1, 10**9, 1], 2, quick=True)
    x = np.arange(9303) % 64 / 64.0
    wrong: list[int] = []

    def work() -> None:
        wrong.extend([turn for turn in range(100) if not (chain.run(x) == chain.expected(x)).all()])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("quick", [False, True])
def test_kernels_begun_while_others_are_made_are_those_of_the_program(
    quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    compile_it = compiling.compile_object

    def noted(source: str, *rest: object) -> bytes:
        compiled.append(source)
        return compile_it(source, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(compiling, "compile_object", noted)
    kernels = [gather(9306 + quick, factor, 1) for factor in (1.0, -0.5, 0.25)]  # as those of the chain
    for made in kernels:
        program.begin([made], [made.name] if quick else [])
    chain = Chain(9306 + quick, [1, 1, 1], 2, quick)
    x = np.arange(9306.0 + quick) % 64
    np.testing.assert_array_equal(chain.run(x), chain.expected(x))
    assert len([source for source in compiled if f"sub i64 {9305 + quick}," in source]) == 3


def test_quick_code_stays_if_better_code_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> dict[str, int]:
        raise RuntimeError("no memory")

    chain = Chain(9305, [1], 2, quick=True)
    monkeypatch.setattr(program, "compile_kernels", fail)
    with pytest.warns(RuntimeWarning, match="no memory"):
        chain.program.settle()
    x = np.arange(9305.0)
    np.testing.assert_array_equal(chain.run(x), chain.expected(x))


def test_without_mappings_for_more_kernels_numpy_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """LLVM would end the process when there are none left."""
    monkeypatch.setattr(compiling, "_most_mappings", lambda: compiling.RESERVE)
    function = wg.compile(lambda x: wg.sum(wg.sin(x) * 0.123456789))
    x = np.arange(7.0)
    with pytest.warns(RuntimeWarning, match="mappings of memory"):
        found = function(wg.tensor(x))
    for out in (found, function(wg.tensor(x))):
        np.testing.assert_allclose(out.numpy(), np.sum(np.sin(x) * 0.123456789), rtol=1e-14)
    assert "host: sin" in str(function.explain())
