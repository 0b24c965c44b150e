"""Interactive sessions (`>>>`), from a docstring or a page, run and compared with what they say they print."""

from __future__ import annotations

import doctest

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def parse_session(text: str, name: str, path: str, line: int) -> doctest.DocTest:
    """Read the examples in a text that begins on the given line of a file, counted from one."""
    return doctest.DocTestParser().get_doctest(text, {}, name, path, line - 1)


def check_session(session: doctest.DocTest, namespace: dict[str, object]) -> None:
    """Run a session in a namespace, which keeps the names it binds; report every example that printed otherwise."""
    session.globs = namespace
    report: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(session, out=report.append, clear_globs=False)
    if report:
        raise AssertionError("".join(report))
