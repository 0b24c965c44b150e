"""Reads the rules of the library's architecture off its source, by syntax tree alone: nothing is imported or run.

Each check takes the modules of a source tree and yields a `Violation` for every place that breaks its rule.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

PACKAGE = "wengert"

# A unit is a module or package directly under `wengert`; a module belongs to the layer of its unit.
LAYERS: dict[str, int] = {
    **dict.fromkeys(["errors", "typing", "config"], 0),
    "backend": 1,
    "core": 2,
    "declare": 3,
    "ops": 4,
    "tensor": 5,
    **dict.fromkeys(["transforms", "eager", "compile", "inspect", "autograd", "random"], 6),
    **dict.fromkeys(["nn", "optim", "data", "io", "distributed", "testing"], 7),
}
SURFACE_LAYER = 7
TOP_LAYER = 8

# What layer 7 may take from `wengert` although it is a module: names of the public surface that happen to be modules.
PUBLIC_MODULES = frozenset({"errors", "autograd", "random"})

# Checking the rules of operations means reading their records, which no public name hands out.
READERS_OF_RECORDS = {"testing": frozenset({"backend", "core", "declare"})}

# Slow to import and not always there or not always needed, so imported where they are first used.
DEFERRED = frozenset({"cupy", "llvmlite", "matplotlib", "mpi4py", "ray", "rich", "safetensors", "scipy", "sklearn"})
# Of the standard library, only what takes long to import and what NumPy has not imported already.
DEFERRED_STANDARD = frozenset(
    {
        "asyncio",
        "concurrent",
        "difflib",
        "html",
        "http",
        "json",
        "multiprocessing",
        "tempfile",
        "traceback",
        "webbrowser",
    }
)

MODULE_LINES = 500
FUNCTION_LINES = 60

# Names of the field that end in a digit. Any other trailing digit is taken for a version.
NUMBERED_WORDS = frozenset(
    {
        *("log2", "log10", "exp2", "exp10", "arctan2", "atan2", "logaddexp2", "expm1", "log1"),
        *("fft2", "ifft2", "rfft2", "irfft2", "rot90"),
        *("i0", "i1", "j0", "j1", "k0", "k1", "y0", "y1"),
        *("l1", "l2"),
        *("sse2", "avx2", "avx512", "fnv1", "crc32", "sha256", "utf8", "mt19937", "pcg64", "rk4", "rk45", "dopri5"),
    }
)
NUMBERED_DTYPE = re.compile(r"(b?float|u?int|complex|bool|[fiucb])\d+")

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Violation(NamedTuple):
    """A place that breaks a rule, and what to do about it."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Import(NamedTuple):
    """One module that a statement imports. `function` encloses the statement; None at module level."""

    target: str
    line: int
    function: str | None


@dataclass(frozen=True)
class Module:
    """A source file of the package, parsed."""

    name: str
    path: Path
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, str(self.path))

    @property
    def is_package(self) -> bool:
        return self.path.stem == "__init__"

    @property
    def unit(self) -> str:
        """The first name under `wengert`; empty for the top-level `__init__`."""
        return unit_of(self.name)

    def at(self, line: int) -> str:
        return f"{self.name}:{line}"


Modules = dict[str, Module]


def unit_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def layer_of(name: str) -> int | None:
    """Return the layer of a module of the package; None for a unit that has no layer."""
    unit = unit_of(name)
    return LAYERS.get(unit) if unit else TOP_LAYER


def is_own(name: str) -> bool:
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")


def read_modules(source_root: Path) -> Modules:
    """Parse every module of the package that lies under `source_root`."""
    modules: Modules = {}
    for path in sorted((source_root / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(source_root).with_suffix("").parts).removesuffix(".__init__")
        modules[name] = Module(name, path, path.read_text(encoding="utf-8"))
    return modules


# Imports


def imports_of(module: Module, modules: Modules) -> Iterator[Import]:
    """Yield what a module imports when it runs: statements under TYPE_CHECKING are left out."""
    for statement, function in _import_statements(module.tree, None):
        for target in _targets(statement, module, modules):
            yield Import(target, statement.lineno, function)


def _import_statements(node: ast.AST, function: str | None) -> Iterator[tuple[ast.Import | ast.ImportFrom, str | None]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, function
        return
    children: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and _is_type_checking(node.test):
        children = node.orelse
    elif isinstance(node, Function):
        function = node.name
    for child in children:
        yield from _import_statements(child, function)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _targets(statement: ast.Import | ast.ImportFrom, module: Module, modules: Modules) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    base = statement.module or ""
    if statement.level:
        ascend = statement.level - 1 if module.is_package else statement.level
        ancestors = module.name.split(".")
        base = ".".join([*ancestors[: len(ancestors) - ascend], *([base] if base else [])])
    for alias in statement.names:
        submodule = f"{base}.{alias.name}"
        yield submodule if submodule in modules else base


# Layers


def layer_violations(modules: Modules) -> Iterator[Violation]:
    """A module imports only from its own unit or a lower layer; layer 7, only the public surface."""
    for module in modules.values():
        layer = layer_of(module.name)
        if layer is None:
            yield Violation(
                module.name, f"{module.unit!r} has no layer: give it one in LAYERS, or put it where it belongs"
            )
            continue
        for target, line, _ in imports_of(module, modules):
            if is_own(target) and (reason := _layer_fault(module, layer, target)):
                yield Violation(module.at(line), reason)


def _layer_fault(module: Module, layer: int, target: str) -> str | None:
    unit = unit_of(target)
    target_layer = layer_of(target)
    if layer == TOP_LAYER or unit == module.unit or target_layer is None:
        return None
    if layer == SURFACE_LAYER:
        allowed = target == PACKAGE or (unit in PUBLIC_MODULES and target == f"{PACKAGE}.{unit}")
        allowed = allowed or unit in READERS_OF_RECORDS.get(module.unit or "", ())
        return (
            None
            if allowed
            else f"imports {target}: layer {SURFACE_LAYER} knows the rest of the library by its public names"
        )
    if target_layer >= layer:
        return (
            f"imports {target}, of layer {target_layer}, from layer {layer}: only its own unit or below is open to it"
        )
    return None


def deferral_violations(modules: Modules) -> Iterator[Violation]:
    """Nothing is imported inside a function but what is named as deferred; `wengert.__getattr__` is the exception."""
    for module in modules.values():
        for target, line, function in imports_of(module, modules):
            lazy_surface = module.name == PACKAGE and function == "__getattr__"
            if function is None or (is_own(target) and lazy_surface):
                continue
            if target.split(".")[0] not in DEFERRED | DEFERRED_STANDARD:
                yield Violation(module.at(line), f"{function}() imports {target}: import it at the top of the module")
        if module.name != PACKAGE:
            yield from _dynamic_imports(module)


def _dynamic_imports(module: Module) -> Iterator[Violation]:
    for node in ast.walk(module.tree):
        if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
        target = node.args[0].value
        if (
            called in ("import_module", "__import__")
            and isinstance(target, str)
            and (is_own(target) or target[:1] == ".")
        ):
            yield Violation(module.at(node.lineno), f"{called}({target!r}) hides an import of the library's own module")


def top_level_imports(modules: Modules, names: Iterable[str]) -> Iterator[Violation]:
    """Yield the places that import one of the named distributions as their module is imported."""
    for module in modules.values():
        for target, line, function in imports_of(module, modules):
            if function is None and target.split(".")[0] in names:
                yield Violation(module.at(line), f"imports {target} at module level")


# Cycles


def import_graph(modules: Modules) -> dict[str, set[str]]:
    """Return which modules run before or while each module runs.

    To import `a.b.c` is to run `a` and `a.b` first. A module's own ancestors are left out: they are running already.
    """
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for module in modules.values():
        for target, _, _ in imports_of(module, modules):
            parts = target.split(".")
            loaded = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
            graph[module.name] |= {name for name in loaded if name in modules and not _is_within(module.name, name)}
    return graph


def _is_within(name: str, ancestor: str) -> bool:
    return name.startswith(f"{ancestor}.")


def cycle_violations(modules: Modules) -> Iterator[Violation]:
    """No two modules import each other, by however many steps."""
    for component in strongly_connected(import_graph(modules)):
        if len(component) > 1:
            yield Violation(min(component), f"import cycle of {len(component)} modules: {', '.join(sorted(component))}")


def strongly_connected(graph: Mapping[str, Iterable[str]]) -> list[set[str]]:
    """Return the strongly connected components of a graph (S. R. Kosaraju's two passes)."""
    order: list[str] = []
    seen: set[str] = set()
    for root in graph:
        _post_order(root, graph, seen, order)
    reverse: dict[str, list[str]] = defaultdict(list)
    for source, targets in graph.items():
        for target in targets:
            reverse[target].append(source)
    components: list[set[str]] = []
    seen = set()
    for root in reversed(order):
        if root not in seen:
            component: list[str] = []
            _post_order(root, reverse, seen, component)
            components.append(set(component))
    return components


def _post_order(root: str, graph: Mapping[str, Iterable[str]], seen: set[str], order: list[str]) -> None:
    if root in seen:
        return
    seen.add(root)
    stack = [(root, iter(graph.get(root, ())))]
    while stack:
        name, targets = stack[-1]
        for target in targets:
            if target not in seen:
                seen.add(target)
                stack.append((target, iter(graph.get(target, ()))))
                break
        else:
            stack.pop()
            order.append(name)


# Sizes


def oversizes(modules: Modules) -> dict[str, int]:
    """Return the modules (`wengert.m`) and functions (`wengert.m:C.f`) that are over their limit, with their lines."""
    found: dict[str, int] = {}
    for module in modules.values():
        if (lines := len(module.source.splitlines())) > MODULE_LINES:
            found[module.name] = lines
        for name, function in _functions(module.tree, ""):
            if (lines := _lines_of_code(function)) > FUNCTION_LINES:
                found[f"{module.name}:{name}"] = lines
    return found


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, Function | ast.ClassDef):
            inner = f"{prefix}{child.name}."
        if isinstance(child, Function):
            yield inner.removesuffix("."), child
        yield from _functions(child, inner)


def _lines_of_code(function: Function) -> int:
    """Count the lines from `def` to the end, less the docstring: nobody should be made to shorten that."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return lines


def size_violations(modules: Modules, ratchet: Mapping[str, int]) -> Iterator[Violation]:
    """Nothing is over its limit but the exceptions of the ratchet, which must be exact: they may only shrink."""
    found = oversizes(modules)
    for where, lines in found.items():
        limit = FUNCTION_LINES if ":" in where else MODULE_LINES
        if where not in ratchet:
            yield Violation(where, f"{lines} lines, more than {limit}: divide it")
        elif lines > ratchet[where]:
            yield Violation(where, f"{lines} lines, more than the {ratchet[where]} of its exception: divide it")
        elif lines < ratchet[where]:
            yield Violation(where, f"shrank to {lines} lines: lower its exception from {ratchet[where]}")
    for where in ratchet.keys() - found.keys():
        yield Violation(where, "is within its limit, or gone: remove its exception")


# Names


def naming_violations(modules: Modules) -> Iterator[Violation]:
    """No lambda is bound to a name, and no function or class is told from another by a number."""
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and _is_lambda(node.value):
                yield Violation(module.at(node.lineno), "binds a lambda to a name: write a function")
            elif isinstance(node, Function | ast.ClassDef) and not is_sound_name(node.name):
                yield Violation(module.at(node.lineno), f"{node.name!r} ends in a number: say what distinguishes it")


def _is_lambda(value: ast.expr | None) -> bool:
    if isinstance(value, ast.IfExp):
        return _is_lambda(value.body) or _is_lambda(value.orelse)
    return isinstance(value, ast.Lambda)


def is_sound_name(name: str) -> bool:
    """Whether a name ends in no number, or in a word of the field that does (`log2`, `to_float32`)."""
    word = name.rstrip("_").split("_")[-1].lower()
    return not word[-1:].isdigit() or word in NUMBERED_WORDS or NUMBERED_DTYPE.fullmatch(word) is not None
