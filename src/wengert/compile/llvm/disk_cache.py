"""A directory of compiled code that outlives the process, shared by all processes of one user.

What is read from it will be run, so nothing is taken on trust: the directory and each file must belong to the user,
nobody else may be able to write to them, and a file must hold what its name promises (a checksum says so). Whatever
does not is treated as absent. A cache that can't be used costs one warning and compile time, never a result.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import Lock
from typing import NamedTuple

DIRECTORY_VARIABLE, SWITCH_VARIABLE = "WENGERT_CACHE_DIR", "WENGERT_CACHE"
OFF = ("0", "off", "no", "false")
LIMIT = 256 * 1024 * 1024
MAGIC = b"wengert object 1\n"
SUFFIX, UNFINISHED = ".obj", ".tmp"
ABANDONED_AFTER = 3600.0
"""Seconds after which a file that is still being written belongs to a process that is gone."""

_POSIX = os.name == "posix"
_OPEN_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_RELATIVE = os.open in os.supports_dir_fd
_next_temporary = count().__next__


class UntrustedError(OSError):
    """Someone else could have put code here."""


class Entry(NamedTuple):
    """A file of the cache: its name, size and when it was last used."""

    name: str
    size: int
    used: float


def default_directory() -> Path | None:
    """Return where compiled code is kept by the system's convention, or the user's choice; None where switched off."""
    if os.environ.get(SWITCH_VARIABLE, "").strip().lower() in OFF:
        return None
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    if chosen:
        return Path(chosen)
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home directory
        return None
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        named = os.environ.get("XDG_CACHE_HOME", "")
        base = Path(named) if Path(named).is_absolute() else home / ".cache"
    return base / "wengert" / "native"


def _demand_private(found: os.stat_result, what: object) -> None:
    """Raise an UntrustedError unless what was found is the user's own, and only the user's to write."""
    if not _POSIX:
        return
    if found.st_uid != os.geteuid():
        raise UntrustedError(f"{what} belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UntrustedError(f"{what} can be written by other users")


def _seal(key: str, code: bytes) -> bytes:
    """Return the digest that ties code to its key."""
    return hashlib.sha256(b"\0".join([MAGIC, key.encode(), code])).digest()


class DiskCache:
    """Compiled code by key, in a directory.

    Args:
        directory: where; made when first written to.
        limit: bytes that all files may take; the least recently used are deleted beyond that.
    """

    def __init__(self, directory: Path, limit: int = LIMIT) -> None:
        self.directory = directory
        self.limit = limit
        self._usable = True
        self._giving_up = Lock()
        self._total: int | None = None

    def get(self, key: str) -> bytes | None:
        """Return the code of a key, or None."""
        if not self._usable:
            return None
        try:
            with self._opened(make=False) as place:
                return self._read(place, key)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._give_up(error)
            return None

    def put(self, key: str, code: bytes) -> None:
        """Keep the code of a key; safe beside any number of other writers and readers."""
        if not self._usable:
            return
        try:
            with self._opened(make=True) as place:
                self._write(place, key, code)
                self._bound(place, len(code))
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        with self._giving_up:  # one warning, whatever several threads find at once
            if not self._usable:
                return
            self._usable = False
        warnings.warn(
            f"compiled code is not kept on disk: {error}; set {DIRECTORY_VARIABLE} to a directory of your own, "
            f"or {SWITCH_VARIABLE}=0 to do without",
            RuntimeWarning,
            stacklevel=2,
        )

    @contextmanager
    def _opened(self, make: bool) -> Iterator[int | None]:
        """Hold the directory open while it is used, so that it can't be exchanged once it has been looked at."""
        if make:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _RELATIVE:
            _demand_private(self.directory.stat(), self.directory)
            yield None
            return
        place = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _demand_private(os.fstat(place), self.directory)
            yield place
        finally:
            os.close(place)

    def _named(self, place: int | None, name: str) -> str:
        """Return the name of a file, relative to the open directory where there is one."""
        return name if place is not None else str(self.directory / name)

    def _read(self, place: int | None, key: str) -> bytes | None:
        name = self._named(place, key + SUFFIX)
        try:
            file = os.open(name, os.O_RDONLY | _OPEN_BINARY | getattr(os, "O_NONBLOCK", 0), dir_fd=place)
        except FileNotFoundError:
            return None
        except OSError:  # a link, a device, a file without permission: not ours
            return self._discard(place, key)
        try:
            content = self._trusted(file)
        except OSError:
            return self._discard(place, key)
        finally:
            os.close(file)
        start = len(MAGIC) + hashlib.sha256().digest_size
        code = content[start:]
        if content[:start] != MAGIC + _seal(key, code):
            return self._discard(place, key)
        with suppress(OSError):
            os.utime(name, dir_fd=place)
        return code

    def _trusted(self, file: int) -> bytes:
        """Return what is in an open file, if it is one of ours."""
        found = os.fstat(file)
        _demand_private(found, "the file")
        if not stat.S_ISREG(found.st_mode) or found.st_size > self.limit:
            raise UntrustedError("not a file of compiled code")
        with os.fdopen(file, "rb", closefd=False) as stream:
            return stream.read()

    def _discard(self, place: int | None, key: str) -> None:
        """Delete a file that can't be used, if possible; a new one takes its place in any case."""
        with suppress(OSError):
            os.unlink(self._named(place, key + SUFFIX), dir_fd=place)

    def _write(self, place: int | None, key: str, code: bytes) -> None:
        """Write a file under a name that nobody reads, then rename it: readers see all of it or nothing."""
        temporary = self._named(place, f"{os.getpid()}-{time.time_ns()}-{_next_temporary()}{UNFINISHED}")
        final = self._named(place, key + SUFFIX)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN_BINARY
        try:
            with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=place), "wb") as stream:
                stream.write(MAGIC + _seal(key, code) + code)
            try:
                os.replace(temporary, final, src_dir_fd=place, dst_dir_fd=place)
            except PermissionError:
                if _POSIX:
                    raise
                Path(temporary).unlink()  # another process reads the file: it holds the same code
        except OSError:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=place)
            raise

    def _entries(self, place: int | None) -> Iterator[Entry]:
        """Yield the cache's own files; delete those that were never finished."""
        with os.scandir(self.directory if place is None else place) as files:
            for file in files:
                if not file.name.endswith((SUFFIX, UNFINISHED)):
                    continue
                with suppress(OSError):
                    found = file.stat(follow_symlinks=False)
                    if file.name.endswith(SUFFIX):
                        yield Entry(file.name, found.st_size, found.st_mtime)
                    elif time.time() - found.st_mtime > ABANDONED_AFTER:
                        os.unlink(self._named(place, file.name), dir_fd=place)

    def _bound(self, place: int | None, added: int) -> None:
        """Delete the least recently used files if all together take more than the limit."""
        if self._total is not None and self._total + added <= self.limit:
            self._total += added
            return
        entries = sorted(self._entries(place), key=_last_use)
        total = sum([entry.size for entry in entries])
        goal = self.limit if total <= self.limit else self.limit * 3 // 4  # not one file at a time, from then on
        for entry in entries:
            if total <= goal:
                break
            with suppress(OSError):
                os.unlink(self._named(place, entry.name), dir_fd=place)
            total -= entry.size
        self._total = total


def _last_use(entry: Entry) -> float:
    return entry.used
