"""Chains of jobs: what units touch is what kernels say, and threads go on alone only where nobody else is concerned."""

from __future__ import annotations

import numpy as np
import pytest

import wengert as wg
from tests.compile import nest_samples, product_samples
from tests.compile.native_jobs import kernel
from wengert.compile.kernels import Job, Kernel, Place, Span
from wengert.compile.llvm.chains import MOST_LINKS, linked
from wengert.compile.llvm.machine import AVX2, AVX512, NEON, Machine
from wengert.compile.llvm.nests import nest_kernel
from wengert.compile.llvm.products import product_kernel
from wengert.compile.llvm.program import Addresses, NativeProgram, shares_of
from wengert.compile.nests import Access

UNITS, ROW = 8, 3
"""Units of the kernels written by hand, and float64 numbers that each works on."""
ROWS = """
define void @NAME(ptr %operands, i64 %begin, i64 %end, ptr %scratch) {
entry:
  %x = load ptr, ptr %operands
  %y.place = getelementptr ptr, ptr %operands, i64 1
  %y = load ptr, ptr %y.place
  %first = mul i64 %begin, 3
  %last = mul i64 %end, 3
  %none = icmp sge i64 %first, %last
  br i1 %none, label %done, label %more
more:
  %i = phi i64 [ %first, %entry ], [ %next, %more ]
  %p = getelementptr double, ptr %x, i64 %i
  %u = load double, ptr %p
  %w = fmul double %u, FACTOR
  %z = fadd double %w, 1.0
  %q = getelementptr double, ptr %y, i64 %i
  store double %z, ptr %q
  %next = add i64 %i, 1
  %again = icmp slt i64 %next, %last
  br i1 %again, label %more, label %done
done:
  ret void
}
"""
"""y = FACTOR * x + 1, row by row."""
ARRAY = 8 * ROW * UNITS
"""Bytes of an array."""


def touched(kernel: Kernel, operand: int, begin: int, end: int, size: int, first: int, writes: bool) -> np.ndarray:
    """Return which of `size` bytes of an operand units may touch; its address is `first` bytes after the first one."""
    flags = np.zeros(size, bool)
    for span in kernel.spans:
        if span.operand == operand and (span.writes or not writes):
            for row in range(begin // span.per, -(-end // span.per)):
                low = first + span.low + row * span.pitch
                flags[max(low, 0) : max(low + span.extent, 0)] = True
    return flags


def check(
    kernel: Kernel, native: product_samples.Native, buffers: list[np.ndarray], margins: list[int], begin: int, end: int
) -> None:
    """Run some units, once more with other numbers wherever they are said not to look: nothing else may change."""

    def run(arrays: list[np.ndarray]) -> None:
        native.run(kernel, [a.ctypes.data + m for a, m in zip(arrays, margins)], begin, end)

    plain = [buffer.copy() for buffer in buffers]
    run(plain)
    spoilt = [buffer.copy() for buffer in buffers]
    rng = np.random.default_rng(0)
    for number, array in enumerate(spoilt):
        raw = array.view(np.uint8)
        hidden = ~touched(kernel, number, begin, end, len(raw), margins[number], writes=False)
        raw[hidden] = rng.integers(0, 2 if array.dtype == bool else 256, int(hidden.sum()), np.uint8)
    before = [array.copy() for array in spoilt]
    run(spoilt)
    for number, (array, old, other) in enumerate(zip(spoilt, before, plain)):
        now, was = array.view(np.uint8), old.view(np.uint8)
        writable = touched(kernel, number, begin, end, len(now), margins[number], writes=True)
        assert (now == was)[~writable].all(), f"operand {number} is written to where {kernel.name} says it is not"
        assert (now == other.view(np.uint8))[writable].all(), f"{kernel.name} reads where it says it does not"


def divisions(rng: np.random.Generator, units: int) -> tuple[int, int]:
    begin, end = sorted(rng.integers(0, units + 1, 2).tolist())
    return begin, end


@pytest.mark.parametrize("machine", [AVX512, AVX2, NEON], ids=["avx512", "avx2", "neon"])
def test_units_of_nests_touch_what_their_kernels_say(machine: Machine) -> None:
    """Random nests: conditions, several phases, reductions, layouts with negative strides and gaps."""
    rng, maker, found = np.random.default_rng(11), nest_samples.Maker(5), list[tuple[Kernel, nest_samples.Sample]]()
    while len(found) < 15:
        sample = maker.sample()
        made = nest_kernel(sample.nest, machine)
        if made.spans and made.units > 1 and any([span.pitch for span in made.spans]):
            found.append((made, sample))
    native = product_samples.Native([made for made, _ in found])
    for made, sample in found:
        buffers = sample.guarded()
        margins = [nest_samples.MARGIN * buffer.itemsize for buffer in buffers]
        for _ in range(3):
            check(made, native, buffers, margins, *divisions(rng, made.units))


@pytest.mark.parametrize("machine", [AVX512, AVX2, NEON], ids=["avx512", "avx2", "neon"])
def test_units_of_products_touch_what_their_kernels_say(machine: Machine) -> None:
    """Random products with epilogues, and batches of panels, whose rows come first."""
    rng, found = np.random.default_rng(3), list[tuple[Kernel, product_samples.Sample]]()
    epilogues = [product_samples.EPILOGUES[name] for name in ("plain", "residual", "column bias", "momentum")]
    while len(found) < 12:
        m, n, k = (int(rng.choice([1, 2, 8, 16, 24, 32, 48])) for _ in range(3))
        epilogue = epilogues[len(found) % 4]
        sample = product_samples.sample(rng, (4,) if len(found) < 6 else (), m, n, k, "f4", epilogue)
        if len(found) < 6:
            sample = in_panels(sample, rng)
        made = product_kernel(sample.product, machine)
        if made.spans and made.units > 1:
            found.append((made, sample))
    native = product_samples.Native([made for made, _ in found])
    for made, sample in found:
        buffers = [one.buffer for one in sample.operands]
        margins = [one.address - one.buffer.ctypes.data for one in sample.operands]
        for _ in range(3):
            check(made, native, buffers, margins, *divisions(rng, made.units))


def in_panels(sample: product_samples.Sample, rng: np.random.Generator) -> product_samples.Sample:
    """Return a product whose batches are panels of columns of one result, with a common left factor."""
    batch, m, n, k = *sample.product.batch, sample.product.m, sample.product.n, sample.product.k
    width = batch * n
    places = [(0, k, 1), (k * n, n, 1), *[(n, width, 1)] * (len(sample.operands) - 2)]
    operands = []
    for number, one in enumerate(sample.operands):
        length = {0: m * k, 1: batch * k * n}.get(number, m * width)
        buffer = rng.standard_normal(length + 2 * product_samples.MARGIN).astype(one.buffer.dtype)
        operands.append(product_samples.Operand(buffer[product_samples.MARGIN :], buffer))

    def placed(access: Access) -> Access:
        return access._replace(offset=0, strides=places[access.operand])

    product = sample.product._replace(
        a=placed(sample.product.a),
        b=placed(sample.product.b),
        inputs={name: placed(source) for name, source in sample.product.inputs.items() if isinstance(source, Access)},
        stores=tuple([store._replace(target=placed(store.target)) for store in sample.product.stores]),
    )
    return sample._replace(product=product, operands=operands)


def by_rows(factor: float) -> Kernel:
    """Return a kernel whose units are rows, and that says so."""
    made = kernel(ROWS.replace("FACTOR", f"{factor:e}"), UNITS, 1)
    spans = Span(0, 1, 0, 8 * ROW, 8 * ROW, False), Span(1, 1, 0, 8 * ROW, 8 * ROW, True)
    return made._replace(spans=spans)


def reading_all(made: Kernel) -> Kernel:
    """Return a kernel that says that each of its units may read all of its operand."""
    return made._replace(spans=(Span(0, 1, 0, 0, ARRAY, False), made.spans[1]))


def groups(*jobs: Job) -> list[list[int]]:
    return linked(jobs, [2] * len(jobs), [1] * len(jobs))


def test_jobs_whose_rows_stay_apart_are_chained() -> None:
    one, other = by_rows(0.5), by_rows(-0.5)
    first, second, third = (Place(0, place * ARRAY) for place in range(3))
    rows = Job(one, (first, second)), Job(other, (second, third)), Job(one, (third, first))
    assert groups(*rows) == [[0, 1, 2]]
    in_place = Job(one, (first, first))
    assert groups(in_place, in_place) == [[0, 1]]


def test_who_reads_what_another_thread_writes_has_to_wait() -> None:
    one = by_rows(0.5)
    first, second, third = (Place(0, place * ARRAY) for place in range(3))
    write, read_all = Job(one, (first, second)), Job(reading_all(one), (second, third))
    assert groups(write, read_all) == [[0], [1]]
    assert groups(read_all, Job(one, (first, second))) == [[0], [1]], "what others still read is written over"
    assert groups(Job(reading_all(one), (first, third)), write) == [[0, 1]], "it reads what nobody writes"
    late = Job(one, (third, Place(0, ARRAY // 2)))
    assert groups(Job(reading_all(one), (first, Place(0, 4 * ARRAY))), late) == [[0], [1]], "what is read begins before"
    shifted = Job(one, (Place(0, ARRAY + 8 * ROW), third))
    assert groups(write, shifted) == [[0], [1]], "rows are other rows"


def test_what_is_not_known_or_not_in_the_arena_is_waited_for() -> None:
    one = by_rows(0.5)
    first, second, third = (Place(0, place * ARRAY) for place in range(3))
    silent = one._replace(spans=())
    assert groups(Job(one, (first, second)), Job(silent, (second, third)), Job(one, (third, first))) == [[0], [1], [2]]
    assert groups(Job(one, (first, Place(1, 0))), Job(one, (Place(1, 0), second))) == [[0], [1]]
    assert groups(Job(one, (Place(1, 0), first)), Job(one, (first, second))) == [[0, 1]], "reading is no harm"
    pair = Job(one, (first, second)), Job(one, (second, third))
    assert linked(pair, [1, 2], [1, 1]) == [[0], [1]], "the first one is not divided"
    assert linked(pair, [3, 1], [1, 1]) == [[0, 1]], "the second one would not be divided, but costs nothing so"
    assert linked(pair, [2, 2], [1, 4]) == [[0], [1]], "the second one is done in pieces"
    assert linked(pair, [2, 3], [1, 1]) == [[0], [1]], "the second one is worth more threads"


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("quick", [False, True])
def test_programs_of_chains_compute_what_numpy_says(threads: int, quick: bool) -> None:
    """Dyadic numbers, so that NumPy's results are the same bits."""
    factors = [0.5, -0.5, 0.25, 0.5, -0.25, 0.5]
    places = [Place(1, 0), *[Place(0, (number % 2) * ARRAY) for number in range(5)], Place(2, 0)]
    kernels = [
        reading_all(by_rows(factor)) if number == 3 else by_rows(factor) for number, factor in enumerate(factors)
    ]
    jobs = [Job(made, (places[number], places[number + 1])) for number, made in enumerate(kernels)]
    program = NativeProgram(jobs, 2 * ARRAY, 2, threads, {job.kernel.name for job in jobs} if quick else ())
    addresses = Addresses(2)
    for call in range(40):
        x = np.random.default_rng(call).integers(-64, 64, ROW * UNITS).astype(float)
        out, want = np.full(ROW * UNITS, np.nan), x
        addresses[0], addresses[1] = x.ctypes.data, out.ctypes.data
        program.run(addresses)
        for factor in factors:
            want = factor * want + 1.0
        np.testing.assert_array_equal(out, want)
    times = program.profile(addresses)
    assert [timing.name for timing in times] == [made.name for made in kernels]
    assert all([timing.busy > 0 for timing in times])


def test_a_recurrence_over_a_batch_is_a_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of an LSTM: its results are the same bits on one thread and on several, and two threads hardly meet."""
    made: list[NativeProgram] = []
    begin = NativeProgram.__init__

    def spy(self: NativeProgram, *given: object, **named: object) -> None:
        begin(self, *given, **named)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(NativeProgram, "__init__", spy)
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((8, 32, 512)).astype(np.float32)
    weight = rng.standard_normal((512, 128)).astype(np.float32) / 8

    def total(weight: wg.Tensor, inputs: wg.Tensor) -> wg.Tensor:
        h = c = wg.zeros((32, 128), dtype="float32")
        for step in range(len(inputs)):
            gates = inputs[step] + wg.matmul(h, weight.T)
            i, f, g, o = (gates[:, 128 * gate : 128 * gate + 128] for gate in range(4))
            c = wg.sigmoid(f) * c + wg.sigmoid(i) * wg.tanh(g)
            h = wg.sigmoid(o) * wg.tanh(c)
        return wg.sum(h * h)

    def run(threads: str) -> list[np.ndarray]:
        monkeypatch.setenv("WENGERT_NUM_THREADS", threads)
        value, gradient = wg.compile(wg.value_and_grad(total))(wg.tensor(weight), wg.tensor(inputs))
        return [value.numpy(), gradient.numpy()]

    alone, shared = run("1"), run("2")
    for one, other in zip(alone, shared):
        np.testing.assert_array_equal(one, other)
    jobs = made[-1].jobs
    shares = [shares_of(job.kernel.units, job.kernel.grain, 2) for job in jobs]
    assert max([len(group) for group in linked(jobs, shares, [1] * len(jobs))]) == MOST_LINKS
