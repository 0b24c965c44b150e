"""Native programs and the life of a process: forks, exit, busy cores, and machines without native code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from wengert.compile.llvm import machine, target
from wengert.compile.llvm.machine import AVX2, AVX512, NEON, SSE2, machine_of
from wengert.compile.llvm.target import MOST_THREADS, Target, available_cores, host_target

ROOT = Path(__file__).resolve().parents[2]
PREAMBLE = """
import os, sys, threading, time
import numpy as np
import numpy.testing  # now, and not while another thread forks
from tests.compile.native_jobs import Chain

def check(chain, times=20):
    x = np.arange(chain.n) % 64 / 64.0
    for _ in range(times):
        np.testing.assert_array_equal(chain.run(x), chain.expected(x))
"""

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


def run(program: str, tmp_path: Path, **environment: str) -> str:
    variables = {**os.environ, "WENGERT_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-W", "error", "-c", PREAMBLE + dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_process_ends_with_workers_spinning_or_asleep(tmp_path: Path) -> None:
    run("check(Chain(300, [1, 1, 1], 3))", tmp_path)
    run("check(Chain(300, [1, 1, 1], 3)); time.sleep(0.05)", tmp_path)


def test_a_process_ends_while_another_thread_runs_programs(tmp_path: Path) -> None:
    program = """
        chain = Chain(5000, [1] * 50, 2)
        threading.Thread(target=check, args=(chain, 10**9), daemon=True).start()
        time.sleep(0.2)
    """
    run(program, tmp_path)


@forks
def test_a_forked_child_has_workers_of_its_own(tmp_path: Path) -> None:
    program = """
        chain = Chain(300, [1, 1, 1], 3)
        check(chain)
        children = []
        for _ in range(3):
            child = os.fork()
            if not child:
                check(chain)
                check(Chain(310, [1, 1, 1], 2))
                os._exit(0)
            children.append(child)
            check(chain)
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        check(chain)
    """
    run(program, tmp_path)


@forks
def test_a_fork_while_another_thread_runs_a_program(tmp_path: Path) -> None:
    program = """
        import warnings
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        chain = Chain(3000, [1] * 30, 2)
        stop = []
        def keep_on():
            while not stop:
                check(chain, 1)
        check(chain, 1)
        other = threading.Thread(target=keep_on)
        other.start()
        for _ in range(5):
            child = os.fork()
            if not child:
                check(chain, 5)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        stop.append(True)
        other.join()
    """
    run(program, tmp_path)


@forks
def test_a_fork_leaves_no_threads_behind(tmp_path: Path) -> None:
    # Python warns of a fork in a process with threads; -W error would turn that into a failure.
    run("check(Chain(300, [1, 1], 3)); child = os.fork(); child or os._exit(0); os.waitpid(child, 0)", tmp_path)


def test_a_busy_core_costs_time_in_proportion(tmp_path: Path) -> None:
    # Every core has a busy process besides. The program has 400 jobs; a time slice lost at each (3 ms or more) would be
    # seconds for a call, where the fair share of half the cores doubles the time of one that runs alone.
    program = """
        import subprocess
        several, alone = Chain(20_000, [1] * 400, 2), Chain(20_000, [1] * 400, 1)
        x, out = np.zeros(20_000), {}
        hog = "while True: pass"
        hogs = [subprocess.Popen([sys.executable, "-c", hog]) for _ in range(os.cpu_count())]
        try:
            time.sleep(0.3)
            for name, chain in (("several", several), ("alone", alone)):
                chain.run(x)
                times = []
                for _ in range(7):
                    start = time.perf_counter()
                    chain.run(x)
                    times.append(time.perf_counter() - start)
                out[name] = sorted(times)[3]
        finally:
            for process in hogs:
                process.kill()
                process.wait()
        print(out["several"], out["alone"])
    """
    several, alone = map(float, run(program, tmp_path).split())
    assert several < 4 * alone + 0.1


def test_a_second_process_finds_the_code_of_the_first(tmp_path: Path) -> None:
    program = """
        from wengert.compile.llvm import compiling
        if sys.argv[1:] == []:
            if os.path.isdir(os.environ["WENGERT_CACHE_DIR"]):
                def refuse(*_):
                    raise AssertionError("compiled again")
                compiling.compile_object = refuse
        check(Chain(300, [1, 1, 1], 2))
    """
    run(program, tmp_path)
    assert list((tmp_path / "cache").glob("*.obj"))
    run(program, tmp_path)


def test_without_the_cache_nothing_is_written(tmp_path: Path) -> None:
    run("check(Chain(300, [1], 2))", tmp_path, WENGERT_CACHE="0")
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_costs_one_warning(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    program = """
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check(Chain(300, [1], 2))
            check(Chain(301, [1], 2))
        assert len(caught) == 1, caught
    """
    run(program, tmp_path)


def test_a_machine_without_llvmlite_says_so(tmp_path: Path) -> None:
    program = """
        from wengert.errors import NativeCodeError
        sys.modules["llvmlite"] = None
        try:
            Chain(10, [1], 1)
        except NativeCodeError as error:
            assert "llvmlite" in str(error)
        else:
            raise AssertionError
    """
    run(program, tmp_path)


def test_the_number_of_threads_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WENGERT_NUM_THREADS", "3")
    assert available_cores() == 3
    monkeypatch.setenv("WENGERT_NUM_THREADS", "")
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    for wrong in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("WENGERT_NUM_THREADS", wrong)
        with pytest.raises(ValueError, match="WENGERT_NUM_THREADS"):
            available_cores()


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, MOST_THREADS),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, MOST_THREADS),
        ({"cpu.max": "100000 0\n"}, MOST_THREADS),
        ({"cpu.max": "nonsense"}, MOST_THREADS),
        ({}, MOST_THREADS),
    ],
)
def test_a_container_s_share_of_cores_is_kept(files: dict[str, str], cores: int, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert target._quota(tmp_path) == cores


WIDE = "+avx2,+fma,+avx512f,+avx512vl,+avx512bw,+avx512dq"


@pytest.mark.parametrize(
    ("triple", "features", "machine"),
    [
        ("x86_64-pc-linux-gnu", WIDE, AVX512),
        ("x86_64-pc-linux-gnu", f"{WIDE},+avx512bf16", AVX512._replace(bfloat16=True)),
        ("x86_64-pc-linux-gnu", f"{WIDE},+avx512bf16,+amx-tile,+amx-bf16", AVX512),
        ("x86_64-pc-windows-msvc", "+avx2,+fma,+avx512f,-avx512vl", AVX2),
        ("x86_64-apple-darwin", "+avx,-avx2", SSE2),
        ("arm64-apple-darwin", "+neon", NEON),
        ("aarch64-unknown-linux-gnu", "", NEON),
    ],
)
def test_vectors_are_those_of_the_processor(triple: str, features: str, machine: object) -> None:
    assert machine_of(Target(triple, "some", features, "1")) == machine


def test_cache_sizes_are_read_where_the_system_tells_them(tmp_path: Path) -> None:
    for number, entry in enumerate([("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K")]):
        directory = tmp_path / f"index{number}"
        directory.mkdir()
        for name, value in zip(("level", "type", "size"), entry):
            (directory / name).write_text(value + "\n")
    found = machine._with_caches(SSE2, tmp_path)
    assert (found.level1, found.level2) == (48 * 1024, 2048 * 1024)
    assert machine._with_caches(SSE2, tmp_path / "nowhere") == SSE2


def test_the_host_is_described_once() -> None:
    assert host_target() is host_target()
    assert machine.host_machine() is machine.host_machine()
    assert machine.host_machine().vector_bytes in (16, 32, 64)
