from wengert.compile.kernels import Kernel
from wengert.compile.llvm.effort import (
    ALLOWANCE,
    CALL,
    NEST_SLOWER,
    PATIENCE,
    PRODUCT_SLOWER,
    SMALL,
    least,
    longer_for,
    negligible,
    work_of,
)


def kernel(name: str, work: int) -> Kernel:
    return Kernel(name, "", (), 1, 1, flops=work)


def test_only_kernels_that_take_next_to_no_time_are_negligible() -> None:
    large, small = kernel("large", 10**9), kernel("small", 100)
    assert negligible([large, small], [large, small]) == {"small"}
    assert negligible([large, small], [large]) == set()  # convolutions are not asked about


def test_products_suffer_more_than_nests() -> None:
    large, small = kernel("large", 10**7), kernel("small", int((10**7 + CALL) * ALLOWANCE / (PRODUCT_SLOWER - 2)))
    assert negligible([large, small], [small]) == {"small"}
    assert negligible([large, small], [], [small]) == set()
    assert negligible([large, kernel("tiny", 100)], [], [kernel("tiny", 100)]) == {"tiny"}


def test_what_runs_often_is_not_negligible() -> None:
    large, small = kernel("large", 10**6), kernel("small", 100)
    often = int((10**6 + CALL) * ALLOWANCE / work_of(small)) + 20
    assert negligible([large, *[small] * often], [small]) == set()


def test_all_that_is_chosen_together_stays_within_the_allowance() -> None:
    large = kernel("large", 10**8)
    others = [kernel(f"other{i}", 10**4 * (i + 1)) for i in range(40)]
    chosen = negligible([large, *others], others)
    total = CALL + sum([work_of(k) for k in (large, *others)])
    spent = sum([work_of(k) * (NEST_SLOWER - 1) for k in others if k.name in chosen])
    assert 0 < len(chosen) < len(others)
    assert spent <= total * ALLOWANCE
    left = min([k for k in others if k.name not in chosen], key=work_of)
    assert spent + work_of(left) * (NEST_SLOWER - 1) > total * ALLOWANCE
    assert all([work_of(k) <= work_of(left) for k in others if k.name in chosen])


def test_a_program_of_one_kernel_gets_good_code() -> None:
    only = kernel("only", CALL // 10)
    assert negligible([only], [only]) == set()


def test_first_calls_are_not_kept_waiting_by_more_than_patience() -> None:
    costs = {f"kernel{i}": PATIENCE // 8 * (i + 1) for i in range(8)}
    assert least(costs, PATIENCE) == {"kernel0", "kernel1", "kernel2"}
    assert least({**costs, "small": SMALL}, PATIENCE) == {"small", "kernel0", "kernel1", "kernel2"}


def test_what_a_kernel_costs_goes_by_its_kind_and_by_how_often_it_runs() -> None:
    one = kernel("one", 10**6)
    assert longer_for(one, 3, False) == 3 * work_of(one) * (NEST_SLOWER - 1)
    assert longer_for(one, 3, True) == 3 * work_of(one) * (PRODUCT_SLOWER - 1)
