"""Every example in a docstring of the library runs and prints what it says.

Docstrings are read from the source, not from the imported objects: a declaration turns a function into an operation,
whose docstring doctest's own finder would not see; and collecting tests imports nothing.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.docs.sessions import check_session, parse_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from doctest import DocTest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "wengert"
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstrings_of(node: Documented, name: str) -> Iterator[tuple[str, ast.Constant]]:
    """Yield the docstrings in a syntax tree that hold examples, each with the dotted name of what it documents."""
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and ">>>" in str(first.value.value):
        yield name, first.value
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from docstrings_of(child, f"{name}.{child.name}")


def doctests_of(path: Path, name: str) -> Iterator[DocTest]:
    """Yield the examples of a source file, one test for each docstring, with the line numbers of the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for owner, constant in docstrings_of(tree, name):
        yield parse_session(str(constant.value), owner, str(path), constant.lineno)


def library_doctests() -> list[DocTest]:
    """Collect the examples of the whole library, in an order that every test process agrees on."""
    found: list[DocTest] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found += doctests_of(path, ".".join(parts).removesuffix(".__init__"))
    return found


DOCTESTS = library_doctests()


@pytest.mark.parametrize("example", DOCTESTS, ids=[test.name for test in DOCTESTS])
def test_docstring_example(example: DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wengert as wg

    monkeypatch.chdir(tmp_path)
    check_session(example, {"wg": wg, "np": np})


def test_decorated_and_nested_docstrings_are_found(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(
        '"""No example."""\n@declare\ndef f():\n    """One.\n\n    >>> 1\n    1\n    """\n'
        'class C:\n    def g(self):\n        """Two.\n\n        >>> 2\n        3\n        """\n',
        encoding="utf-8",
    )
    first, second = doctests_of(path, "sample")
    assert (first.name, first.lineno) == ("sample.f", 3)
    assert second.name == "sample.C.g"
    check_session(first, {})
    with pytest.raises(AssertionError, match=r"Expected:\s+3\s+Got:\s+2"):
        check_session(second, {})
