"""The architecture, enforced: layers, import cycles, deferred imports, sizes, names and what `import wengert` loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from tests.meta.architecture import (
    DEFERRED,
    FUNCTION_LINES,
    MODULE_LINES,
    Modules,
    Violation,
    cycle_violations,
    deferral_violations,
    is_sound_name,
    layer_violations,
    naming_violations,
    oversizes,
    read_modules,
    size_violations,
    top_level_imports,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

SOURCE = Path(__file__).resolve().parents[2] / "src"

# Modules and functions over the limit, with their lines: `"wengert.core.tape": 520`, `"wengert.core.tape:sweep": 75`.
# An entry is lowered whenever what it names shrinks, and removed when it fits. None is raised, and none is added.
RATCHET: dict[str, int] = {}


@pytest.fixture(scope="module")
def library() -> Modules:
    return read_modules(SOURCE)


def report(violations: Iterable[Violation]) -> str:
    return "\n".join(str(violation) for violation in violations)


def demand_none(violations: Iterable[Violation]) -> None:
    found = report(violations)
    assert not found, f"\n{found}"


def test_a_module_imports_only_from_its_own_unit_or_below(library: Modules) -> None:
    demand_none(layer_violations(library))


def test_nothing_is_imported_inside_a_function_but_what_is_deferred_on_purpose(library: Modules) -> None:
    demand_none(deferral_violations(library))


def test_no_module_is_part_of_an_import_cycle(library: Modules) -> None:
    demand_none(cycle_violations(library))


def test_modules_and_functions_keep_their_size(library: Modules) -> None:
    demand_none(size_violations(library, RATCHET))


def test_names_say_what_they_name(library: Modules) -> None:
    demand_none(naming_violations(library))


def test_import_loads_no_deferred_dependency(library: Modules) -> None:
    program = "import json, sys, wengert; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    at_fault = loaded & DEFERRED
    assert not at_fault, f"`import wengert` loads {sorted(at_fault)}\n{report(top_level_imports(library, at_fault))}"


# The checker, checked: each rule is broken on purpose.


def write_tree(root: Path, files: dict[str, str]) -> Modules:
    """Lay out a source tree and read it; packages get an empty `__init__` unless given one."""
    for name, source in files.items():
        path = root / "wengert" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source), encoding="utf-8")
    for folder in [root / "wengert", *(path for path in (root / "wengert").rglob("*") if path.is_dir())]:
        (folder / "__init__.py").touch()
    return read_modules(root)


@pytest.mark.parametrize(
    ("path", "statement"),
    [
        ("core/tape.py", "from wengert.ops import arithmetic"),
        ("core/tape.py", "import wengert.ops.arithmetic"),
        ("core/tape.py", "from ..ops import arithmetic"),
        ("core/__init__.py", "from ..ops import arithmetic"),
        ("core/tape.py", "import wengert"),
        ("core/tape.py", "from wengert import Tensor"),
        ("core/tape.py", "def f():\n    from wengert.ops import arithmetic"),
        ("core/tape.py", "try:\n    import wengert.ops\nexcept ImportError:\n    pass"),
        ("transforms/reverse.py", "from wengert.eager import modes"),
        ("nn/layers.py", "from wengert.core import tape"),
        ("nn/layers.py", "from wengert import optim"),
        ("nn/layers.py", "from wengert.random import normal"),
        ("stray.py", "x = 1"),
    ],
)
def test_an_upward_import_is_noticed(path: str, statement: str, tmp_path: Path) -> None:
    tree = {
        "ops/arithmetic.py": "",
        "eager/modes.py": "",
        "optim/sgd.py": "",
        "random/normal.py": "",
        "core/tape.py": "",
    }
    violations = list(layer_violations(write_tree(tmp_path, {**tree, path: statement})))
    assert len(violations) == 1
    assert violations[0].where.startswith(
        "wengert." + path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    )


@pytest.mark.parametrize(
    ("path", "statement"),
    [
        ("ops/arithmetic.py", "from wengert.core.tape import Node\nfrom wengert import errors\nimport numpy"),
        ("ops/arithmetic.py", "from . import shaping\nfrom ..core import tape\nimport typing, inspect, random"),
        ("core/tape.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from wengert.ops import shaping"),
        (
            "nn/layers.py",
            "import wengert as wg\nfrom wengert import Tensor, random\nfrom wengert.errors import ShapeError",
        ),
        ("nn/layers.py", "from wengert.nn import init\nfrom . import init as again"),
        ("__init__.py", "from wengert.ops import shaping\nfrom wengert.core import tape"),
    ],
)
def test_a_downward_import_is_accepted(path: str, statement: str, tmp_path: Path) -> None:
    tree = {"ops/shaping.py": "", "core/tape.py": "", "random.py": "", "errors.py": "", "nn/init.py": ""}
    demand_none(layer_violations(write_tree(tmp_path, {**tree, path: statement})))


@pytest.mark.parametrize(
    "body",
    [
        "from wengert.core import node",
        "import numpy",
        "import math",
        "importlib.import_module('wengert.core.node')",
        "__import__('wengert.core.node')",
    ],
)
def test_an_import_inside_a_function_is_noticed(body: str, tmp_path: Path) -> None:
    tree = {"core/node.py": "", "core/tape.py": f"def f():\n    {body}\n", "__init__.py": f"def f():\n    {body}\n"}
    where = [violation.where.split(":")[0] for violation in deferral_violations(write_tree(tmp_path, tree))]
    assert [name for name in where if name == "wengert.core.tape"] == ["wengert.core.tape"]
    # The top-level package may look modules up by name; its import statements are bound by the rule all the same.
    assert ("wengert" in where) == ("import_" not in body)


def test_deferred_imports_and_the_lazy_surface_are_accepted(tmp_path: Path) -> None:
    tree = {
        "core/tape.py": "async def f():\n    import scipy.special\n    from llvmlite import binding\n    import json\n",
        "__init__.py": "def __getattr__(name):\n    from wengert.core import tape\n    return tape\n",
    }
    demand_none(deferral_violations(write_tree(tmp_path, tree)))


@pytest.mark.parametrize(
    "tree",
    [
        {
            "core/a.py": "from wengert.core import b",
            "core/b.py": "from .c import x",
            "core/c.py": "import wengert.core.a",
        },
        {"core/a.py": "from wengert.core import b", "core/b.py": "def f():\n    from wengert.core import a"},
        {
            "ops/__init__.py": "from .sums import x",
            "ops/sums.py": "import wengert.core",
            "core/__init__.py": "import wengert.ops",
        },
        {"ops/sums.py": "import wengert.core.tape", "core/__init__.py": "import wengert.ops.sums", "core/tape.py": ""},
    ],
    ids=["three modules", "through a function", "two packages", "through an implied package"],
)
def test_an_import_cycle_is_noticed(tree: dict[str, str], tmp_path: Path) -> None:
    assert "import cycle" in report(cycle_violations(write_tree(tmp_path, tree)))


def test_ancestors_and_annotations_make_no_cycle(tmp_path: Path) -> None:
    tree = {
        "__init__.py": "from wengert.nn import layers",
        "nn/__init__.py": "from .layers import Linear",
        "nn/layers.py": "import wengert as wg\nfrom wengert.nn import init",
        "nn/init.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from wengert.nn import layers",
    }
    demand_none(cycle_violations(write_tree(tmp_path, tree)))


def test_sizes_are_noticed_and_the_ratchet_only_shrinks(tmp_path: Path) -> None:
    body = [f"        x = {line}" for line in range(FUNCTION_LINES)]
    fits = ["    def fits(self):", "        '''A docstring", "", "        does not count.'''", *body[:-1]]
    long = ["    def long(self):", *body]
    tree = {
        "core/tape.py": "\n".join(["class C:", *fits, *long]),
        "core/forward.py": "x = 1\n" * (MODULE_LINES + 1),
        "core/node.py": "x = 1\n" * MODULE_LINES,
    }
    library = write_tree(tmp_path, tree)
    exact = {"wengert.core.forward": MODULE_LINES + 1, "wengert.core.tape:C.long": FUNCTION_LINES + 1}
    assert oversizes(library) == exact
    assert len(list(size_violations(library, {}))) == 2
    demand_none(size_violations(library, exact))
    one_less = {where: lines - 1 for where, lines in exact.items()}
    one_more = {where: lines + 1 for where, lines in exact.items()}
    assert report(size_violations(library, one_less)).count("divide it") == 2
    assert report(size_violations(library, one_more)).count("lower its exception") == 2
    assert "remove its exception" in report(size_violations(library, {**exact, "wengert.core.node": 600}))


@pytest.mark.parametrize(
    "source",
    [
        "f = lambda x: x",
        "class C:\n    f: object = lambda x: x",
        "def g(self):\n    self.f = lambda x: x",
        "f = (lambda: 1) if x else None",
        "if (f := lambda: 1): pass",
        "def sweep2(): pass",
        "class Adam2: pass",
        "def f():\n    async def inner_3(): pass",
    ],
)
def test_a_bad_name_is_noticed(source: str, tmp_path: Path) -> None:
    assert len(list(naming_violations(write_tree(tmp_path, {"core/tape.py": source})))) == 1


@pytest.mark.parametrize(
    "name", ["log2", "log1p", "_np_log10", "arctan2", "to_float32", "Int64", "Conv2d", "rot90", "f", "_"]
)
def test_a_name_of_the_field_may_end_in_a_number(name: str) -> None:
    assert is_sound_name(name)


@pytest.mark.parametrize("name", ["sweep2", "sweep_2", "_sweep_v2", "Sweep3", "log3", "helper1_"])
def test_a_number_that_tells_versions_apart_is_noticed(name: str) -> None:
    assert not is_sound_name(name)
