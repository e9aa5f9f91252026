"""Files are written whole or not at all; a damaged cache is made again."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.data import default_cache_dir
from experiments.data.cache import cache_key, load_arrays, save_arrays
from lstm_jax import files
from lstm_jax.files import write_whole

ARRAYS = {"tokens": np.arange(7, dtype=np.int32), "split/labels": np.zeros((0, 2))}


def files_under(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_default_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "lstm_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "lstm_jax"


def test_write_whole_makes_folders_and_replaces(tmp_path):
    file = tmp_path / "a" / "b" / "file"
    write_whole(file, b"first")
    write_whole(file, b"second")
    assert file.read_bytes() == b"second"
    assert files_under(file.parent) == ["file"]


@pytest.mark.parametrize("before", [None, b"before"])
@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()],
    ids=["full disk", "interrupted"],
)
def test_nothing_half_written_after_an_error(
    tmp_path, monkeypatch, function, error, before
):
    file = tmp_path / "file"
    if before is not None:
        file.write_bytes(before)

    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(error)) as raised:
        write_whole(file, b"content")
    if isinstance(error, OSError):
        assert raised.value.errno == errno.ENOSPC
        assert f"could not write {file} (7 bytes): No space left" in str(raised.value)
    assert files_under(tmp_path) == ([] if before is None else ["file"])
    assert before is None or file.read_bytes() == before


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_disk_that_really_refuses_leaves_nothing(tmp_path):
    """The system's own limit on a file's size stands in for a full disk."""
    program = """
import pathlib, resource, signal, sys
from lstm_jax.files import write_whole
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
write_whole(pathlib.Path(sys.argv[1]), bytes(1_000_000))
"""
    done = run(program, tmp_path / "file")
    assert done.returncode == 1
    assert f"could not write {tmp_path / 'file'} (1000000 bytes)" in done.stderr
    assert files_under(tmp_path) == []


@pytest.mark.parametrize("before", [None, b"before"])
def test_a_kill_in_mid_write_leaves_the_old_file_or_none(tmp_path, before):
    program = """
import os, pathlib, signal, sys
from lstm_jax.files import write_whole
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_whole(pathlib.Path(sys.argv[1]), b"after")
"""
    file = tmp_path / "file"
    if before is not None:
        file.write_bytes(before)
    assert run(program, file).returncode == -signal.SIGKILL
    assert (file.read_bytes() if file.exists() else None) == before
    (left_over,) = tmp_path.glob(".file.*.tmp")

    write_whole(file, b"next")  # a write of the same name may still be going on
    assert left_over.exists()
    os.utime(left_over, (0, 0))
    write_whole(tmp_path / "other", b"not its own")
    assert left_over.exists()
    write_whole(file, b"next")
    assert files_under(tmp_path) == ["file", "other"]


def test_arrays_come_back(tmp_path):
    file = tmp_path / "arrays"
    save_arrays(file, ARRAYS)
    loaded = load_arrays(file)
    assert loaded is not None
    assert loaded.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype


def test_no_file_is_no_arrays(tmp_path):
    assert load_arrays(tmp_path / "arrays") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: content[:200] + b"?" + content[201:],
        lambda content: content + b"\0",
        lambda content: b"?" + content[1:],
    ],
    ids=["empty", "shorter than the checksum", "cut", "changed", "longer", "checksum"],
)
def test_a_damaged_file_is_passed_over_with_a_warning(tmp_path, damage):
    file = tmp_path / "arrays"
    save_arrays(file, ARRAYS)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(UserWarning, match=r"arrays is damaged; it is made again"):
        assert load_arrays(file) is None


def test_a_key_depends_on_content_alone():
    key = cache_key({"seed": 0, "source": "a"})
    assert cache_key({"source": "a", "seed": 0}) == key
    assert len(key) == 32
    for other in (
        {"seed": 1, "source": "a"},
        {"seed": 0},
        {"seed": "0", "source": "a"},
    ):
        assert cache_key(other) != key


def test_another_process_may_remove_a_left_over_first(tmp_path, monkeypatch):
    (tmp_path / ".file.x.tmp").touch()
    monkeypatch.setattr(files, "_STALE_SECONDS", -1.0)
    unlink = Path.unlink

    def faster(self, missing_ok=False):
        unlink(self, missing_ok=True)
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", faster)
    write_whole(tmp_path / "file", b"content")
    assert files_under(tmp_path) == ["file"]


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_a_files_mode_is_the_umasks(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask
