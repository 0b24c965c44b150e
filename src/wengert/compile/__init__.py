"""The compiler: from recorded operations to native functions; `scalar_ir` is where a kernel's arithmetic is built."""

import sys as _sys
from importlib import import_module as _import_module
from types import ModuleType as _ModuleType
from typing import Any as _Any


class _CallableModule(_ModuleType):
    """This package, which Python puts in the place of `wg.compile` if it is imported before that is used."""

    def __call__(self, *args: _Any, **options: _Any) -> _Any:
        return _import_module(".api", __name__).compile(*args, **options)


_sys.modules[__name__].__class__ = _CallableModule
