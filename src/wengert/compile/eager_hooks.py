"""What eager code calls of the compiler, see `core.native`."""

from .eager_boxed import swept as swept_boxed
from .eager_chains import chained as chained
from .eager_derivatives import derived as derived
from .eager_operations import computed as computed
from .eager_pushes import pushed as pushed
from .eager_sweeps import swept as swept
from .eager_updates import updated as updated

__all__ = ["chained", "computed", "derived", "pushed", "swept", "swept_boxed", "updated"]
