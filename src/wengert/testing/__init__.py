"""Checks that gradients are right: `check_grads` for anybody's function, `check_rule` for an operation's declaration.

The checks of declarations look at the engine's own records (primitives, Nodes, residuals), so this package, alone in
the topmost layer, imports `wengert.core`, `wengert.declare` and `wengert.backend`.
"""

from __future__ import annotations

from .grads import check_grads as check_grads
from .suite import CHECKS as CHECKS
from .suite import check_rule as check_rule
from .suite import checks_of as checks_of
from .suite import run_check as run_check

__all__ = ["CHECKS", "check_grads", "check_rule", "checks_of", "run_check"]
