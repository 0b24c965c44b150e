"""Functions that read clocks, files or the system's random numbers: each run would need them anew."""

from __future__ import annotations

import datetime
import functools
import logging
import os
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wengert as wg
from wengert.compile.backends import CompileWarning

HERE = Path(__file__)


def clock(x: Any) -> Any:
    return x * time.perf_counter_ns()


def date(x: Any) -> Any:
    return x * datetime.datetime.now(tz=datetime.UTC).timestamp()


def noise(x: Any) -> Any:
    return x * int.from_bytes(os.urandom(6), "little")


def identity(x: Any) -> Any:
    return x * (uuid.uuid4().int % 2**40)


@pytest.mark.parametrize("function", [clock, date, noise, identity])
def test_what_answers_differently_is_asked_in_every_run(function: Callable[..., Any]) -> None:
    compiled = wg.compile(function)
    x = wg.ones((), dtype=wg.float64)
    with pytest.warns(CompileWarning, match=rf"it reads .* at .*{HERE.name}:\d+, which a compiled function does only"):
        first = compiled(x).item()
    assert len({first, *[compiled(x).item() for _ in range(3)]}) == 4
    assert sys.getprofile() is None


def test_a_file_is_read_in_every_run(tmp_path: Path) -> None:
    path = tmp_path / "scale.txt"

    def by_pathlib(x: Any) -> Any:
        return x * float(path.read_text())

    def by_open(x: Any) -> Any:
        with open(path) as file:  # noqa: PTH123 - it is what people write
            return x * float(file.read())

    for function in (by_pathlib, by_open):
        path.write_text("2")
        compiled = wg.compile(function)
        with pytest.warns(CompileWarning, match="it reads a file"):
            assert compiled(wg.ones(1)).tolist() == [2.0]
        path.write_text("3")
        assert compiled(wg.ones(1)).tolist() == [3.0]


def test_a_clock_that_is_named_but_not_read_does_no_harm() -> None:
    def function(x: Any, verbose: bool = False) -> Any:
        if verbose:
            return x * time.time()
        return x * 2

    compiled = wg.compile(function)
    assert compiled(wg.ones(1)).tolist() == [2.0]
    assert len(compiled.explain().programs) == 1
    with pytest.warns(CompileWarning, match=r"a clock \(time\.time\)"):
        compiled(wg.ones(1), verbose=True)


def test_what_libraries_ask_for_themselves_does_no_harm() -> None:
    def function(x: Any) -> Any:
        logging.getLogger("wengert.test").info("at %s", time)  # logging reads a clock of its own
        return x * 2

    compiled = wg.compile(function)
    assert compiled(wg.ones(1)).tolist() == [2.0]
    assert len(compiled.explain().programs) == 1


def test_another_profiler_is_left_alone() -> None:
    heard: list[str] = []

    def listen(*_: Any) -> None:
        heard.append("")

    compiled = wg.compile(functools.partial(clock))
    sys.setprofile(listen)
    try:
        compiled(wg.ones((), dtype=wg.float64))
        assert sys.getprofile() is listen
    finally:
        sys.setprofile(None)


def test_an_exception_ends_the_listening() -> None:
    def function(x: Any) -> Any:
        time.time()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        wg.compile(function)(wg.ones(1))
    assert sys.getprofile() is None
