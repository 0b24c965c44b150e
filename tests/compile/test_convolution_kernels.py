"""Kernels of convolutions: against direct sums in extended precision, between poisoned margins, for any division."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.compile.played_tiles import Emulated
from tests.compile.product_samples import Native, nearest_bfloat16
from tests.compile.window_samples import (
    Array,
    Moves,
    convolved,
    convolved_back_to_input,
    convolved_back_to_weight,
    empty,
    outcome,
    random_moves,
)
from wengert.backend import convolution as eager
from wengert.compile.kernels import Kernel
from wengert.compile.llvm.compiling import module_of
from wengert.compile.llvm.convolution_product import After
from wengert.compile.llvm.convolution_steps import Steps, fused_convolution, steps_for
from wengert.compile.llvm.machine import AVX2, AVX512, NEON, SSE2, Machine
from wengert.compile.llvm.recipes import Recipe
from wengert.compile.nests import Access, Counter, Store
from wengert.compile.scalar_ir import INT64, apply, input_scalar

MACHINES = {"avx512": AVX512, "avx2": AVX2, "sse2": SSE2, "neon": NEON}
SMALL_CACHES = AVX512._replace(level1=4096, level2=16384)  # so that small images are cut into bands


class Case(NamedTuple):
    """A convolution with its arrays: input, weights, and a cotangent of the output."""

    moves: Moves
    groups: int
    x: Array
    weight: Array
    y: Array

    @property
    def params(self) -> dict[str, Any]:
        rest = self.moves._asdict()
        del rest["window"]
        return {**rest, "groups": self.groups}

    @property
    def dtype(self) -> Any:
        return self.x.dtype


def case(
    rng: np.random.Generator, moves: Moves, image: tuple[int, int], counts: tuple[int, int, int, int], dtype: str
) -> Case:
    """Return a convolution of random numbers; counts: batch, groups, channels and filters of a group."""
    batch, groups, depth, breadth = counts
    x = rng.standard_normal((batch, groups * depth, *image)).astype(dtype)
    weight = rng.standard_normal((groups * breadth, depth, *moves.window)).astype(dtype)
    y = rng.standard_normal((batch, groups * breadth, *moves.places(image))).astype(dtype)
    return Case(moves, groups, x, weight, y)


def random_case(rng: np.random.Generator, dtype: str) -> Case:
    moves, image = random_moves(rng)
    counts = [int(rng.integers(1, most + 1)) for most in (3, 3, 4, 11)]
    return case(rng, moves, image, (counts[0], counts[1], counts[2], counts[3]), dtype)


def forward(one: Case, narrow: bool = False) -> Steps:
    return _some(steps_for("convolve", (one.x.shape, one.weight.shape), one.dtype, one.params, narrow))


def back_to_input(one: Case, narrow: bool = False) -> Steps:
    params = {**one.params, "extents": one.x.shape[2:]}
    return _some(steps_for("convolve_transpose_x", (one.y.shape, one.weight.shape), one.dtype, params, narrow))


def back_to_weight(one: Case, narrow: bool = False) -> Steps:
    params = {**one.params, "kernel": one.weight.shape[2:]}
    return _some(steps_for("convolve_transpose_weight", (one.y.shape, one.x.shape), one.dtype, params, narrow))


def _some(steps: Steps | None) -> Steps:
    assert steps is not None
    return steps


class Compiled:
    """Steps whose kernels are compiled, all in one module."""

    def __init__(self, steps: list[Steps], machine: Machine, native: type[Native] = Native) -> None:
        self.kernels = [[recipe.kernel(machine) for recipe in one.recipes] for one in steps]
        self.steps = steps
        self.native = native([kernel for kernels in self.kernels for kernel in kernels])

    def run(self, number: int, inputs: list[Array], out: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Return what one of the steps makes of its inputs."""
        dtype = inputs[0].dtype
        arrays = [*inputs, empty(out, dtype), empty((self.steps[number].temporary,), dtype)]
        for kernel, places in zip(self.kernels[number], self.steps[number].operands):
            given = [arrays[place] for place in places]
            arrays[places[-1]] = outcome(self.native, kernel, given, len(given) - 1, rng)
        return arrays[len(inputs)]


def check(
    cases: list[Case],
    machine: Machine,
    rng: np.random.Generator,
    narrow: bool = False,
    native: type[Native] = Native,
) -> None:
    """Compare outputs and both gradients with direct sums; if `narrow`, of rounded factors where shapes gain by it."""
    steps = [make(one, narrow) for one in cases for make in (forward, back_to_input, back_to_weight)]
    compiled = Compiled(steps, machine, native)
    for number, one in enumerate(cases):
        moves, groups, taps = one.moves, one.groups, one.moves.window[0] * one.moves.window[1]
        shapes = one.x.shape, one.weight.shape, one.y.shape
        rounded = roundings(one) if narrow else (False,) * 3
        out = compiled.run(3 * number, [one.x, one.weight], shapes[2], rng)
        x, weight = factors(rounded[0], one.x, one.weight)
        near(out, convolved(x, weight, moves, groups), convolved(abs(x), abs(weight), moves, groups), weight[0].size)
        out = compiled.run(3 * number + 1, [one.y, one.weight], shapes[0], rng)
        y, weight = factors(rounded[1], one.y, one.weight)
        want, size = [
            convolved_back_to_input(a, b, moves, groups, shapes[0][2:]) for a, b in ((y, weight), (abs(y), abs(weight)))
        ]
        near(out, want, size, taps * weight.shape[0] // groups)
        out = compiled.run(3 * number + 2, [one.y, one.x], shapes[1], rng)
        y, x = factors(rounded[2], one.y, one.x)
        want, size = [convolved_back_to_weight(a, b, moves, groups) for a, b in ((y, x), (abs(y), abs(x)))]
        near(out, want, size, y.size // y.shape[1])


def roundings(one: Case) -> tuple[bool, bool, bool]:
    """Return whether output and gradients of a shape gain by rounded factors: long sums, which share factors."""
    (breadth, depth), taps = (one.y.shape[1] // one.groups, one.weight.shape[1]), one.weight[0, 0].size
    pointwise = (1, 1) == one.moves.window == one.moves.stride and one.moves.padding == ((0, 0), (0, 0))
    gains = [
        n > 1 and n * taps >= 16 and m * taps >= 8 and not pointwise and (taps > 1 or min(n, m) >= 32)
        for n, m in ((depth, breadth), (breadth, depth))
    ]
    return gains[0], gains[1], depth * taps >= 16 and breadth * taps >= 8


def factors(rounded: bool, *arrays: Array) -> list[Array]:
    return [nearest_bfloat16(array) if rounded else array for array in arrays]


def near(out: Array, want: Array, size: Array, length: int) -> None:
    """Demand that sums of so many products are as exact as they can be whatever their order."""
    bound = (length + 1) * float(np.finfo(out.dtype).eps) * size
    wrong = ~(np.abs(out - want) <= bound)
    assert not wrong.any(), (np.argwhere(wrong)[:4], out[wrong][:4], want[wrong][:4])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_random_convolutions_are_direct_sums(machine: Machine, dtype: str) -> None:
    rng = np.random.default_rng(7)
    check([random_case(rng, dtype) for _ in range(5)], machine, rng)


TILES = AVX512._replace(tiles=True)
NARROW_MACHINES = {**MACHINES, "avx512-bfloat16": AVX512._replace(bfloat16=True)}


def narrow_cases(rng: np.random.Generator, dtype: str = "f4") -> list[Case]:
    """Return convolutions that gain by rounded factors, both ways or one way, and some that do not."""
    same = Moves((3, 3), padding=((1, 1), (1, 1)))
    return [
        case(rng, same, (14, 14), (2, 1, 16, 32), dtype),
        case(rng, same, (5, 23), (1, 2, 16, 18), dtype),
        case(rng, Moves((3, 2), (2, 1), ((2, 0), (0, 1)), (2, 1)), (13, 9), (2, 1, 8, 17), dtype),
        case(rng, Moves((4, 4), (1, 2), ((1, 1), (3, 2)), (1, 2)), (4, 39), (1, 1, 18, 8), dtype),
        case(rng, Moves((3, 3), (2, 2), ((1, 1), (1, 1))), (11, 21), (1, 1, 16, 20), dtype),
        case(rng, Moves((1, 1), (2, 2)), (8, 9), (2, 1, 34, 33), dtype),
        case(rng, Moves((2, 2), (3, 3)), (9, 19), (1, 1, 16, 16), dtype),
        case(rng, Moves((1, 5), padding=((0, 0), (2, 2))), (1, 9000), (1, 1, 8, 16), dtype),
        case(rng, Moves((1, 5), padding=((0, 0), (2, 2))), (1, 9000), (1, 1, 5, 7), dtype),
        case(rng, Moves((7, 7), (2, 2), ((3, 3), (3, 3))), (33, 33), (1, 1, 3, 8), dtype),
        case(rng, Moves((5, 5), padding=((2, 2), (2, 2))), (9, 21), (2, 6, 1, 1), dtype),
        case(rng, Moves((3, 3)), (6, 7), (1, 1, 15, 7), dtype),
    ]


@pytest.mark.parametrize("machine", NARROW_MACHINES.values(), ids=NARROW_MACHINES)
def test_rounded_factors(machine: Machine) -> None:
    rng, native = np.random.default_rng(41), Emulated if machine.bfloat16 else Native
    check(narrow_cases(rng), machine, rng, narrow=True, native=native)
    check(narrow_cases(rng)[:5], machine._replace(level1=4096, level2=16384), rng, narrow=True, native=native)
    check(narrow_cases(rng, "f8")[2:3], machine, rng)


def test_rounded_factors_in_played_tiles() -> None:
    rng = np.random.default_rng(47)
    cases = [
        case(rng, Moves((3, 3), padding=((1, 1), (1, 1))), (5, 6), (2, 1, 16, 32), "f4"),
        case(rng, Moves((2, 2), (1, 2), ((1, 0), (0, 1))), (5, 9), (1, 2, 48, 16), "f4"),
        case(rng, Moves((3, 2), (2, 1), ((2, 0), (0, 1)), (2, 1)), (6, 21), (1, 1, 32, 64), "f4"),
        case(rng, Moves((1, 1), (2, 2)), (8, 9), (2, 1, 36, 48), "f4"),
        case(rng, Moves((2, 2), (3, 3)), (9, 19), (1, 1, 64, 16), "f4"),
    ]
    for one in cases:
        assert has_tiles(one, forward) or has_tiles(one, back_to_input)
    check(cases, TILES, rng, narrow=True, native=Emulated)
    check(cases[:1], TILES._replace(level1=4096, level2=16384), rng, narrow=True, native=Emulated)


def has_tiles(one: Case, make: Callable[[Case, bool], Steps]) -> bool:
    kernels = [recipe.kernel(TILES) for recipe in make(one, True).recipes]
    return any(["tdpbf16ps" in declaration for kernel in kernels for declaration in kernel.declarations])


def test_gradients_of_weights_in_played_tiles() -> None:
    rng = np.random.default_rng(53)
    same = Moves((3, 3), padding=((1, 1), (1, 1)))
    cases = [
        case(rng, same, (6, 14), (3, 1, 16, 32), "f4"),
        case(rng, same, (5, 8), (2, 2, 16, 16), "f4"),
        case(rng, Moves((2, 2), (1, 2), ((1, 0), (0, 1))), (5, 24), (1, 2, 48, 16), "f4"),
        case(rng, Moves((3, 2), (2, 1), ((2, 0), (0, 1)), (2, 1)), (6, 40), (1, 1, 20, 48), "f4"),
        case(rng, Moves((1, 1), (2, 2)), (8, 20), (2, 1, 36, 48), "f4"),
        case(rng, Moves((3, 3)), (7, 66), (1, 1, 8, 16), "f4"),
        case(rng, Moves((1, 5), padding=((0, 0), (2, 2))), (1, 9000), (1, 1, 16, 16), "f4"),
    ]
    for one in cases:
        assert has_tiles(one, back_to_weight)
    check(cases, TILES, rng, narrow=True, native=Emulated)
    check(cases[:6], TILES._replace(level1=4096, level2=16384), rng, narrow=True, native=Emulated)
    # Rows of an odd number of grid points, and few channels or filters, are left to vectors.
    for columns, channels, filters in ((9, 16, 16), (8, 6, 16), (8, 16, 24)):
        assert not has_tiles(case(rng, same, (4, columns), (1, 1, channels, filters), "f4"), back_to_weight)


def test_a_whole_convolution_compiles_for_a_processor_with_tiles() -> None:
    llvm = pytest.importorskip("llvmlite.binding")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    one = case(np.random.default_rng(1), Moves((3, 3)), (10, 10), (1, 1, 32, 48), "f4")
    module = module_of(
        [recipe.kernel(TILES) for recipe in (*forward(one, True).recipes, *back_to_weight(one, True).recipes)]
    )
    triple = "x86_64-unknown-linux-gnu"
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu="sapphirerapids", opt=1)
    parsed = llvm.parse_assembly(f'target triple = "{triple}"\n{module.source}')
    parsed.verify()
    text = machine.emit_assembly(parsed)
    assert "tdpbf16ps" in text and text.count("tilerelease") == text.count("ldtilecfg") == 2


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("machine", [*NARROW_MACHINES.values(), TILES], ids=[*NARROW_MACHINES, "tiles"])
def test_rounded_factors_keep_apart_what_is_not_finite(machine: Machine, rank: int) -> None:
    rng, native = np.random.default_rng(43), Emulated if machine.bfloat16 or machine.tiles else Native
    moves = Moves((1, 3)) if rank == 1 else Moves((2, 3), (1, 2), ((1, 0), (0, 2)))
    for image in ((4, 21), (3, 70), (3, 34 if rank == 1 else 64)):
        one = case(rng, moves, image, (2, 1, 16, 16), "f4")
        one.x[:, 1, 1, 0] = np.nan
        one.x[0, 2, -1, -1] = np.inf
        one.y[1, 3, 1, 2] = -np.inf
        compiled = Compiled([make(one, True) for make in (forward, back_to_input, back_to_weight)], machine, native)
        x, weight, y = factors(True, one.x, one.weight, one.y)
        for number, given, want in [
            (0, [one.x, one.weight], convolved(x, weight, moves, 1)),
            (1, [one.y, one.weight], convolved_back_to_input(y, weight, moves, 1, image)),
            (2, [one.y, one.x], convolved_back_to_weight(y, x, moves, 1)),
        ]:
            out = compiled.run(number, given, want.shape, rng)
            for kind in (np.isnan, np.isposinf, np.isneginf):
                np.testing.assert_array_equal(kind(out), kind(want), f"{kind} of {number}")


def test_bands_of_rows_make_no_difference() -> None:
    rng = np.random.default_rng(11)
    cases = [random_case(rng, "f4") for _ in range(3)]
    cases += [case(rng, Moves((3, 3), padding=((1, 1), (1, 1))), (37, 18), (2, 1, 3, 9), "f4")]
    cases += [case(rng, Moves((3, 2), (2, 1), ((2, 0), (0, 1)), (2, 1)), (31, 9), (1, 2, 2, 5), "f4")]
    cases += [case(rng, Moves((4, 4), (1, 2), ((1, 1), (3, 2)), (1, 2)), (4, 39), (2, 1, 6, 5), "f4")]
    check(cases, SMALL_CACHES, rng)
    check(cases, SMALL_CACHES._replace(level1=1024, masks=False), rng)


def test_shapes_of_models() -> None:
    rng = np.random.default_rng(3)
    same = Moves((3, 3), padding=((1, 1), (1, 1)))
    cases = [
        case(rng, same, (28, 28), (2, 1, 1, 16), "f4"),
        case(rng, same, (14, 14), (2, 1, 16, 32), "f4"),
        case(rng, same, (9, 9), (2, 12, 1, 1), "f4"),
        case(rng, Moves((1, 1)), (7, 7), (2, 1, 40, 24), "f4"),
        case(rng, Moves((1, 1)), (5, 9), (3, 3, 4, 7), "f4"),
        case(rng, Moves((1, 1), (2, 2)), (8, 8), (2, 1, 16, 24), "f4"),
        case(rng, Moves((7, 7), (2, 2), ((3, 3), (3, 3))), (33, 33), (1, 1, 3, 8), "f4"),
        case(rng, Moves((2, 2)), (3, 2200), (1, 1, 1, 2), "f4"),
    ]
    check(cases, AVX512, rng)


def test_long_rows_are_computed_in_parts() -> None:
    rng = np.random.default_rng(37)
    cases = [
        case(rng, Moves((1, 5), padding=((0, 0), (2, 2))), (1, 9000), (2, 1, 2, 5), "f4"),
        case(rng, Moves((1, 3), (1, 2), ((0, 0), (5, 0)), (1, 2)), (1, 19999), (1, 2, 1, 2), "f4"),
        case(rng, Moves((1, 4), (1, 3), ((0, 0), (0, 1))), (1, 27001), (1, 1, 3, 2), "f8"),
        case(rng, Moves((1, 2)), (1, 8193), (1, 1, 1, 3), "f4"),
    ]
    for one in cases:
        assert one.y.shape[-1] % 1000 == 0 or one.y.shape[-1] == 8192, "a length without parts tests nothing"
    check(cases, AVX512, rng)
    check(cases[:1], NEON, rng)


def test_elements_that_no_window_meets_don_t_matter() -> None:
    rng = np.random.default_rng(5)
    one = case(rng, Moves((2, 2), (3, 3)), (9, 19), (2, 1, 2, 5), "f4")
    met = np.zeros((9, 19), bool)
    for _, place, _ in one.moves.elements((9, 19)):
        met[place] = True
    x = np.where(met, one.x, np.nan)
    x[:, :, :, -1] = np.inf  # the last column belongs to no window
    compiled = Compiled([forward(one), back_to_weight(one)], AVX512)
    zeros = np.where(met, one.x, 0)
    np.testing.assert_array_equal(
        compiled.run(0, [x, one.weight], one.y.shape, rng), compiled.run(0, [zeros, one.weight], one.y.shape, rng)
    )
    np.testing.assert_array_equal(
        compiled.run(1, [one.y, x], one.weight.shape, rng), compiled.run(1, [one.y, zeros], one.weight.shape, rng)
    )


def test_nan_at_an_edge_reaches_only_the_weights_that_meet_it() -> None:
    rng = np.random.default_rng(6)
    one = case(rng, Moves((1, 3)), (4, 21), (1, 1, 1, 2), "f4")
    one.x[:, :, :, 0] = np.nan  # met by the first column of the window alone
    compiled = Compiled([back_to_weight(one)], AVX512)
    out = compiled.run(0, [one.y, one.x], one.weight.shape, rng)
    assert np.isnan(out[..., 0]).all() and not np.isnan(out[..., 1:]).any()


def fused(one: Case, rank: int, *, counted: bool) -> tuple[Recipe, list[Array]]:
    """Return a convolution with bias, rectifier, residual in place and perhaps a counter, and its operands."""
    dtype = one.dtype
    images, kernels = [a.shape if rank == 2 else (*a.shape[:2], a.shape[3]) for a in (one.x, one.weight)]
    shape = one.y.shape if rank == 2 else (*one.y.shape[:2], one.y.shape[3])
    strides = tuple([stride // dtype.itemsize for stride in np.empty(shape, dtype).strides])
    value, bias, rest = [input_scalar(name, dtype) for name in ("product", "bias", "rest")]
    column = input_scalar("column", INT64)
    result = apply("maximum", value + bias, 0.0) + rest
    after = After(
        {
            "bias": Access(3, 0, (0, 1, *[0] * rank)),
            "rest": Access(4, 0, strides),
            **({"column": Counter(rank + 1)} if counted else {}),
        },
        (
            Store(Access(2, 0, strides), value),
            Store(Access(4, 0, strides), apply("where", column < 3, result, rest) if counted else result),
        ),
        (dtype,) * 5,
    )
    params = one.params if rank == 2 else {k: v[1:] if k != "groups" else v for k, v in one.params.items()}
    bias_of = np.linspace(-1, 1, one.weight.shape[0]).astype(dtype)
    recipe = fused_convolution((images, kernels), dtype, params, after)
    return recipe, [one.x, one.weight, empty(one.y.shape, dtype), bias_of, one.y]


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_epilogues(machine: Machine, rank: int) -> None:
    rng = np.random.default_rng(13)
    image = (6 if rank == 2 else 1, 21)
    wide = Moves((3, 3) if rank == 2 else (1, 3), padding=((rank - 1, 0), (1, 1)))
    cases = [
        (case(rng, moves, image, (2, groups, 3, 5), "f4"), counted)
        for moves, groups, counted in [(wide, 2, True), *[(Moves((1, 1)), n, c) for n in (1, 2) for c in (True, False)]]
    ]
    recipes = [fused(one, rank, counted=counted) for one, counted in cases]
    kernels = [recipe.kernel(machine) for recipe, _ in recipes]
    native = Native(kernels)
    for (one, counted), kernel, (_, arrays) in zip(cases, kernels, recipes):
        copies = [array.copy() for array in arrays]
        native.run(kernel, [array.ctypes.data for array in copies])
        product, rest, groups, moves = copies[2], copies[4], one.groups, one.moves
        exact, size = [convolved(x, w, moves, groups) for x, w in ((one.x, one.weight), (abs(one.x), abs(one.weight)))]
        near(product, exact, size, one.weight[0].size)
        want = np.maximum(product + arrays[3][:, None, None], 0) + one.y
        if counted:
            want[..., 3:] = one.y[..., 3:]
        np.testing.assert_array_equal(rest, want)


@pytest.mark.parametrize("rank", [1, 2])
def test_steps_are_those_of_the_primitives(rank: int) -> None:
    rng = np.random.default_rng(17)
    one = case(rng, Moves((1, 3), (1, 2), ((0, 0), (2, 1)), (1, 2)), (1, 30), (3, 2, 3, 4), "f8")
    x, weight, y, params = one.x, one.weight, one.y, dict(one.params)
    if rank == 1:
        x, weight, y = x[:, :, 0], weight[:, :, 0], y[:, :, 0]
        params = {k: v[1:] if k != "groups" else v for k, v in params.items()}
    calls = {
        "convolve": ([x, weight], params, eager.convolve(x, weight, **params)),
        "convolve_transpose_x": (
            [y, weight],
            {**params, "extents": x.shape[2:]},
            eager.convolve_transpose_x(y, weight, extents=x.shape[2:], **params),
        ),
        "convolve_transpose_weight": (
            [y, x],
            {**params, "kernel": weight.shape[2:]},
            eager.convolve_transpose_weight(y, x, kernel=weight.shape[2:], **params),
        ),
    }
    for name, (inputs, given, want) in calls.items():
        steps = _some(steps_for(name, [array.shape for array in inputs], one.dtype, given))
        out = Compiled([steps], AVX2).run(0, inputs, want.shape, rng)
        np.testing.assert_allclose(out, want, rtol=0, atol=1000 * np.finfo(np.float64).eps)


def test_what_has_no_kernel() -> None:
    params: dict[str, Any] = {"stride": (1,) * 3, "padding": ((0, 0),) * 3, "dilation": (1,) * 3, "groups": 1}
    volumes, kernels = (1, 1, 3, 3, 3), (1, 1, 2, 2, 2)
    assert steps_for("convolve", (volumes, kernels), np.dtype("f4"), params) is None
    assert steps_for("convolve", (volumes[1:], kernels[1:]), np.dtype("i8"), params) is None
    assert steps_for("convolve", ((0, 1, 3, 3), (1, 1, 2, 2)), np.dtype("f4"), params) is None
    assert steps_for("add", ((1, 1, 3, 3), (1, 1, 2, 2)), np.dtype("f4"), params) is None


def test_equal_convolutions_have_equal_kernels() -> None:
    rng = np.random.default_rng(19)
    one = random_case(rng, "f4")

    def kernels() -> list[Kernel]:
        return [r.kernel(AVX512) for make in (forward, back_to_input, back_to_weight) for r in make(one).recipes]

    assert kernels() == kernels()
