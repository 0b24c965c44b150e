"""When a user's rules are checked: once for each way in which they are used, and only where all values are at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..core import boxing
from .curvature_checks import check_recorded_rules
from .custom_calls import Call, ForwardError, run_forward
from .custom_rules import Rules
from .rule_checks import check_batching, check_rules, is_rule_checking, unnoticed
from .written_rules import BATCH, Like, Point


class Verifier:
    """Checks the rules of one operation, and knows what has been checked."""

    __slots__ = ("_enabled", "_function", "_rules", "_verified")

    def __init__(self, rules: Rules, function: Callable[..., Any], enabled: bool) -> None:
        self._rules = rules
        self._function = function
        self._enabled = enabled
        self._verified: set[Any] = set()

    def forget(self) -> None:
        """Check again: the rules have changed."""
        self._verified.clear()

    def check(self, call: Call, arrays: Sequence[Any], moving: Sequence[bool]) -> None:
        """Check the rules by the parameters whose arrays move, at a call that has just been made."""
        if not self._enabled or not is_rule_checking():
            return
        key = (tuple(moving), tuple(call.owners), *[getattr(x, "dtype", float) for x in arrays])
        if key in self._verified or not _are_concrete(arrays):
            return
        structure = call.out_structure
        try:
            self._run(key, check_rules, self._rules, self._forward, call, [_raw(x) for x in arrays], moving)
        except ForwardError:
            self._verified.add(key)  # it cannot be called a second time: there is nothing to compare with
        finally:
            call.out_structure = structure

    def check_again(self, node: Any, out_likes: Sequence[Like], moving: Sequence[bool]) -> None:
        """Check that a pullback which is recorded can be differentiated by all that it is computed from."""
        if not self._enabled or not is_rule_checking():
            return
        arrays, outs, likes = node.saved
        call = node.params["call"]
        key = ("again", tuple(moving), tuple(call.owners), *[like and like.dtype for like in likes])
        if key in self._verified or not _are_concrete([*arrays, *(outs or ())]):
            return
        point = Point(call, [_raw(x) for x in arrays], outs and [_raw(y) for y in outs], likes, out_likes, True)
        self._run(key, check_recorded_rules, self._rules, point, moving)

    def check_batching(self, call: Call, args: Sequence[Any], axes: Sequence[Any], outs: Sequence[Any]) -> None:
        """Check what the batching rule has just returned."""
        if not self._enabled or not is_rule_checking():
            return
        key = (BATCH, tuple(axes), tuple(call.owners), *[getattr(x, "dtype", float) for x in args])
        if key not in self._verified and _are_concrete([*args, *outs]):
            self._run(key, check_batching, self._rules.batch, self._forward, call, args, axes, outs)

    def _run(self, key: Any, check: Callable[..., None], *args: Any) -> None:
        self._verified.add(key)  # what a rule calls may come by here again
        try:
            with unnoticed():
                check(*args)
        except BaseException:
            self._verified.discard(key)
            raise

    def _forward(self, call: Call, arrays: Sequence[Any]) -> tuple[Any, ...]:
        return run_forward(self._function, call, arrays)


def _are_concrete(values: Sequence[Any]) -> bool:
    return all([type(x) in (boxing.Tensor, boxing.BorrowedTensor) or not isinstance(x, boxing.Tensor) for x in values])


def _raw(value: Any) -> Any:
    return boxing.data_of(value) if isinstance(value, boxing.Tensor) else value


__all__ = ["Verifier"]
