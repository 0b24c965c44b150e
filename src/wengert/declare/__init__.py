"""How an operation is declared: from one declaration per operation, everything else follows by its kind."""

from __future__ import annotations

from .elementwise import elementwise as elementwise
from .linear import bilinear as bilinear
from .linear import linear as linear
from .opaque import composite as composite
from .opaque import nondifferentiable as nondifferentiable
from .opaque import opaque as opaque
from .reduction import reduction as reduction
from .samples import Sample as Sample
from .samples import at as at
from .samples import domain as domain

__all__ = [
    "Sample",
    "at",
    "bilinear",
    "composite",
    "domain",
    "elementwise",
    "linear",
    "nondifferentiable",
    "opaque",
    "reduction",
]
