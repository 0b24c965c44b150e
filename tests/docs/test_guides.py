"""Every example of the README and of the guides runs, as a reader would run it: from the top of its page to the end.

A ```python block is executed; a ```pycon block is executed and what it prints is compared. The blocks of one page
share a namespace. ```python no-run is for what cannot run here, and every other fence is text.
"""

from __future__ import annotations

import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from tests.docs.sessions import check_session, parse_session

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(page for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if page.exists())
FENCE = re.compile(r"^(?P<indent>[ ]*)(?P<marks>`{3,}|~{3,})(?P<info>[^`\n]*)$")
LANGUAGES = ("python", "pycon")


@dataclass(frozen=True)
class Block:
    """A fenced block to run; `line` is that of its first line of code, counted from one."""

    language: str
    code: str
    line: int


def blocks_of(text: str) -> Iterator[Block]:
    """Yield the runnable fenced blocks of a Markdown page, in order."""
    lines = text.splitlines()
    position = 0
    while position < len(lines):
        opening = FENCE.match(lines[position])
        position += 1
        if opening is None:
            continue
        start = position
        while position < len(lines) and not _closes(lines[position], opening["marks"]):
            position += 1
        if position == len(lines):
            raise ValueError(f"line {start}: a fenced block is never closed")
        if (language := opening["info"].strip()) in LANGUAGES:
            code = textwrap.dedent("\n".join(lines[start:position])) + "\n"
            yield Block(language, code, start + 1)
        position += 1


def _closes(line: str, marks: str) -> bool:
    bare = line.strip()
    return len(bare) >= len(marks) and set(bare) == {marks[0]}


def run_page(page: Path, namespace: dict[str, object]) -> int:
    """Run the blocks of a page in a namespace; return how many there were."""
    blocks = list(blocks_of(page.read_text(encoding="utf-8")))
    for block in blocks:
        if block.language == "pycon":
            check_session(parse_session(block.code, page.name, str(page), block.line), namespace)
        else:
            # Padding gives a traceback, and the engine's own messages, the line numbers of the page.
            code = compile("\n" * (block.line - 1) + block.code, str(page), "exec")
            exec(code, namespace)
    return len(blocks)


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The globals of a module of its own, found in `sys.modules` as dataclasses and pickle expect."""
    module = ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", module)
    return vars(module)


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_page_runs(page: Path, namespace: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page, namespace)


def test_blocks_are_found_with_their_lines() -> None:
    text = "\n".join(
        [
            "# A page",
            "```python",
            "x = 1",
            "```",
            "```python no-run",
            "x = 2",
            "```",
            "- a list",
            "  ```pycon",
            "  >>> x",
            "  1",
            "  ```",
            "~~~text",
            "```python",
            "~~~",
        ]
    )
    assert list(blocks_of(text)) == [Block("python", "x = 1\n", 3), Block("pycon", ">>> x\n1\n", 10)]


def test_an_unclosed_block_is_refused() -> None:
    with pytest.raises(ValueError, match="line 1: a fenced block is never closed"):
        list(blocks_of("```python\nx = 1\n"))


def test_blocks_share_a_namespace_and_errors_name_the_line_of_the_page(
    tmp_path: Path, namespace: dict[str, object]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\n```python\nx += 1\nraise RuntimeError(x)\n```\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="2") as caught:
        run_page(page, namespace)
    frame = caught.traceback[-1]
    assert (frame.path, frame.lineno + 1) == (page, 7)


def test_a_session_that_prints_something_else_fails(tmp_path: Path, namespace: dict[str, object]) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\n```pycon\n>>> x + 1\n3\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=r'page\.md", line 6(?s:.*)Expected:\s+3\s+Got:\s+2'):
        run_page(page, namespace)
