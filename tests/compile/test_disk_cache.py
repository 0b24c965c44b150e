"""The cache of compiled code on disk: what it keeps, and what it does not trust."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from textwrap import dedent

import pytest

from wengert.compile.llvm import disk_cache
from wengert.compile.llvm.disk_cache import MAGIC, SUFFIX, UNFINISHED, DiskCache, default_directory

KEY, OTHER = "0" * 64, "1" * 64
CODE = bytes(range(256)) * 40

posix = pytest.mark.skipif(os.name != "posix", reason="files have owners and modes on POSIX systems only")


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "deep" / "native")


def file_of(cache: DiskCache, key: str = KEY) -> Path:
    return cache.directory / (key + SUFFIX)


def test_what_was_put_is_got_by_any_cache_of_the_directory(cache: DiskCache) -> None:
    assert cache.get(KEY) is None
    cache.put(KEY, CODE)
    assert cache.get(KEY) == CODE
    assert DiskCache(cache.directory).get(KEY) == CODE
    assert cache.get(OTHER) is None
    cache.put(KEY, b"")
    assert cache.get(KEY) == b""


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[: len(MAGIC) + 5],
        lambda content: b"\x7fELF" + content[4:],
        lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
        lambda content: content[: len(MAGIC)] + bytes(32) + content[len(MAGIC) + 32 :],
    ],
    ids=["empty", "short", "long", "header only", "foreign", "flipped bit", "other digest"],
)
def test_a_damaged_or_foreign_file_is_ignored_and_replaced(cache: DiskCache, damage: object) -> None:
    cache.put(KEY, CODE)
    path = file_of(cache)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert cache.get(KEY) is None
    cache.put(KEY, CODE)
    assert cache.get(KEY) == CODE


def test_code_under_the_name_of_another_key_is_ignored(cache: DiskCache) -> None:
    cache.put(KEY, CODE)
    file_of(cache).rename(file_of(cache, OTHER))
    assert cache.get(OTHER) is None


@posix
def test_links_and_devices_are_not_followed(cache: DiskCache, tmp_path: Path) -> None:
    cache.put(KEY, CODE)
    path = file_of(cache)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert cache.get(KEY) is None
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert cache.get(KEY) is None  # and does not wait for a writer
    path.unlink(missing_ok=True)
    path.mkdir()
    assert cache.get(KEY) is None
    assert elsewhere.exists()


@posix
@pytest.mark.parametrize("mode", [0o660, 0o606, 0o666])
def test_a_file_that_others_can_write_is_ignored(cache: DiskCache, mode: int) -> None:
    cache.put(KEY, CODE)
    file_of(cache).chmod(mode)
    assert cache.get(KEY) is None


@posix
def test_files_and_directory_are_private(cache: DiskCache) -> None:
    before = os.umask(0)
    try:
        cache.put(KEY, CODE)
    finally:
        os.umask(before)
    assert cache.directory.stat().st_mode & 0o777 == 0o700
    assert file_of(cache).stat().st_mode & 0o777 == 0o600


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_directory_that_others_can_write_is_refused_with_one_warning(cache: DiskCache, mode: int) -> None:
    cache.put(KEY, CODE)
    cache.directory.chmod(mode)
    fresh = DiskCache(cache.directory)
    with pytest.warns(RuntimeWarning, match="can be written by other users"):
        assert fresh.get(KEY) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fresh.get(KEY) is None
        fresh.put(OTHER, CODE)
    assert not file_of(cache, OTHER).exists()


@posix
def test_what_another_user_owns_is_refused(cache: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put(KEY, CODE)
    monkeypatch.setattr(os, "geteuid", lambda: cache.directory.stat().st_uid + 1)
    with pytest.warns(RuntimeWarning, match="belongs to another user"):
        assert DiskCache(cache.directory).get(KEY) is None


def test_a_file_in_the_place_of_the_directory_costs_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    cache = DiskCache(tmp_path / "file" / "native")
    with pytest.warns(RuntimeWarning, match="not kept on disk"):
        cache.put(KEY, CODE)
    cache.put(KEY, CODE)
    assert cache.get(KEY) is None
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_or_read_only_disk_costs_one_warning(cache: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        cache.put(KEY, CODE)
    cache.put(OTHER, CODE)
    assert list(cache.directory.iterdir()) == []


def test_the_least_recently_used_are_deleted_beyond_the_limit(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "native", limit=5 * len(CODE))
    keys = [str(number) * 64 for number in range(4)]
    for age, key in zip((400, 300, 200, 100), keys):
        cache.put(key, CODE)
        past = file_of(cache, key).stat().st_mtime - age
        os.utime(file_of(cache, key), (past, past))
    assert cache.get(keys[0]) == CODE  # used now, so no longer the oldest
    cache.put("4" * 64, CODE)
    present = [key for key in [*keys, "4" * 64] if file_of(cache, key).exists()]
    assert present == [keys[0], keys[3], "4" * 64]  # down to three quarters of the limit
    assert sum([file.stat().st_size for file in cache.directory.iterdir()]) <= cache.limit


def test_only_the_cache_s_own_files_are_ever_deleted(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "native", limit=len(CODE))
    cache.put(KEY, CODE)
    foreign = cache.directory / "notes.txt"
    foreign.write_text("x" * 10 * len(CODE))
    cache.put(OTHER, CODE)
    assert foreign.exists()


def test_files_that_were_never_finished_are_deleted_when_old(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "native")
    cache.directory.mkdir(mode=0o700)
    old, new = [cache.directory / (name + UNFINISHED) for name in ("old", "new")]
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    past = old.stat().st_mtime - 2 * disk_cache.ABANDONED_AFTER
    os.utime(old, (past, past))
    cache.put(KEY, CODE)
    assert not old.exists()
    assert new.exists()


def test_many_writers_and_readers_at_once_see_whole_files_only(tmp_path: Path) -> None:
    limit = 6 * len(CODE)  # so that files also vanish
    wrong: list[object] = []

    def work(seed: int) -> None:
        cache = DiskCache(tmp_path / "native", limit)
        for turn in range(60):
            number = (seed + turn) % 10
            cache.put(str(number) * 64, bytes([number]) * len(CODE))
            got = cache.get(str((number + 3) % 10) * 64)
            if got not in (None, bytes([(number + 3) % 10]) * len(CODE)):
                wrong.append(got)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert not list((tmp_path / "native").glob(f"*{UNFINISHED}"))


def test_processes_share_it(tmp_path: Path) -> None:
    program = dedent(f"""
        import sys
        from pathlib import Path
        from wengert.compile.llvm.disk_cache import DiskCache
        cache = DiskCache(Path(sys.argv[1]))
        code = bytes(range(256)) * 40
        for turn in range(30):
            cache.put("{KEY}", code)
            assert cache.get("{KEY}") == code
    """)
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "native")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert DiskCache(tmp_path / "native").get(KEY) == CODE


@pytest.mark.parametrize("value", ["0", "off", "No", "FALSE"])
def test_it_can_be_switched_off(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WENGERT_CACHE", value)
    assert default_directory() is None


def test_its_place_follows_the_convention_of_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WENGERT_CACHE", raising=False)
    monkeypatch.delenv("WENGERT_CACHE_DIR", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert default_directory() == tmp_path / ".cache" / "wengert" / "native"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert default_directory() == tmp_path / ".cache" / "wengert" / "native"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_directory() == tmp_path / "xdg" / "wengert" / "native"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_directory() == tmp_path / "Library" / "Caches" / "wengert" / "native"
    monkeypatch.setattr(sys, "platform", "win32")
    assert default_directory() == tmp_path / "AppData" / "Local" / "wengert" / "native"
    monkeypatch.setenv("WENGERT_CACHE_DIR", str(tmp_path / "mine"))
    assert default_directory() == tmp_path / "mine"
