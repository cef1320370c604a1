import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from napari_sparseseg import shared_array
from napari_sparseseg.errors import InputError
from napari_sparseseg.requests import SharedHandle
from napari_sparseseg.shared_array import SharedArray, sweep_dead

OWNER = """
import sys, numpy
from pathlib import Path
from napari_sparseseg.shared_array import SharedArray
array = SharedArray.create((2, 3), numpy.uint8, folder=Path(sys.argv[1]))
print(array.handle.path, flush=True)
sys.stdin.read()
"""
WRITER = """
import sys
from napari_sparseseg.requests import SharedHandle
from napari_sparseseg.shared_array import SharedArray
array = SharedArray.attach(SharedHandle(sys.argv[1], "float32", (2, 3)))
array.array[1, 2] += 1
array.close()
"""
FORKING = """
import os, sys
from pathlib import Path
from napari_sparseseg.shared_array import SharedArray
array = SharedArray.create((2, 3), "uint8", folder=Path(sys.argv[1]))
child = os.fork()
if child == 0:
    array.close()
    sys.exit()
os.waitpid(child, 0)
print(os.path.exists(array.handle.path))
"""


@pytest.fixture
def owner(tmp_path):
    """Another process that owns an array in `tmp_path`, and that array's file."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process, Path(process.stdout.readline().strip())
        process.kill()


@given(
    shape=arrays.array_shapes(min_dims=0, min_side=0),
    dtype=st.sampled_from(["uint8", "int64", "float32", ">f8", "bool"]),
)
def test_what_one_side_writes_the_other_sees(shape, dtype):
    with SharedArray.create(shape, dtype) as owned, SharedArray.attach(owned.handle) as attached:
        assert owned.array.shape == attached.array.shape == shape
        assert owned.array.dtype == attached.array.dtype == np.dtype(dtype)
        assert not owned.array.any()
        attached.array[...] = 1
        assert owned.array.all()


def test_another_process_writes_into_the_same_memory():
    with SharedArray.create((2, 3), np.float32) as array:
        array.array[:] = 5
        subprocess.run([sys.executable, "-c", WRITER, array.handle.path], check=True)
        assert array.array.tolist() == [[5, 5, 5], [5, 5, 6]]


def test_only_the_owner_removes_the_file_and_views_outlive_it(tmp_path):
    owned = SharedArray.create((4,), np.uint8, folder=tmp_path)
    attached = SharedArray.attach(owned.handle)
    view = owned.array[1:]
    attached.close()
    assert list(tmp_path.iterdir())
    owned.close()
    owned.close()
    assert not list(tmp_path.iterdir())
    view[:] = 3
    assert view.tolist() == [3, 3, 3]
    with pytest.raises(ValueError, match="closed"):
        owned.array  # noqa: B018


def test_attached_arrays_outlive_their_owner(tmp_path):
    owned = SharedArray.create((4,), np.uint8, folder=tmp_path)
    owned.array[:] = 7
    with SharedArray.attach(owned.handle) as attached:
        owned.close()
        assert attached.array.tolist() == [7, 7, 7, 7]


def test_a_forgotten_array_leaves_no_file(tmp_path):
    SharedArray.create((4,), np.uint8, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_forked_copy_does_not_take_the_file_away(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", FORKING, tmp_path]
    assert subprocess.check_output(command, text=True).strip() == "True"
    assert not list(tmp_path.iterdir())


def test_nobody_else_may_read_it(tmp_path):
    with SharedArray.create((4,), np.uint8, folder=tmp_path) as array:
        assert stat.S_IMODE(os.stat(array.handle.path).st_mode) == 0o600


def test_a_process_that_ends_leaves_no_file(owner, tmp_path):
    process, path = owner
    assert path.exists()
    process.communicate()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_leaves_is_swept(owner, tmp_path):
    process, path = owner
    others = [tmp_path / "sparseseg-elsewhere-1-x.array", tmp_path / "notes.txt"]
    for other in others:
        other.touch()
    with SharedArray.create((4,), np.uint8, folder=tmp_path) as own:
        assert sweep_dead(tmp_path) == 0
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.exists()
        assert sweep_dead(tmp_path) == 1
        assert set(tmp_path.iterdir()) == {Path(own.handle.path), *others}


def test_making_an_array_sweeps_before(owner, tmp_path):
    process, path = owner
    process.kill()
    process.wait()
    with SharedArray.create((4,), np.uint8, folder=tmp_path):
        assert not path.exists()


def test_sweeping_where_nothing_is_finds_nothing(tmp_path):
    assert sweep_dead(tmp_path / "missing") == 0


def test_no_room_is_told_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"no room for 1125899\.9 GB"):
        SharedArray.create((2**50,), np.uint8, folder=tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="no room"):
        SharedArray.create((2**50,), np.uint8)


def test_scarce_memory_sends_arrays_to_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_array, "_MEMORY_FOLDER", tmp_path / "missing")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_: str(tmp_path / "cache"))
    with SharedArray.create((4,), np.uint8) as array:
        assert Path(array.handle.path).parent == tmp_path / "cache" / "shared"


def test_room_is_taken_where_files_cannot_be_reserved(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    size = 2**20 + 5
    with SharedArray.create((size,), np.uint8, folder=tmp_path) as array:
        assert os.stat(array.handle.path).st_blocks * 512 >= size
        assert not array.array.any()


def test_only_numbers_are_shared():
    for dtype in (object, "U5", "M8[s]", [("a", "u1")]):
        with pytest.raises(InputError, match=r"(cannot|can) be shared"):
            SharedArray.create((2,), dtype)


def test_a_handle_that_does_not_fit_is_refused_in_a_sentence(tmp_path):
    with SharedArray.create((4, 5), np.float32) as array:
        handle = array.handle
        for wrong in (
            replace(handle, shape=(4, 6)), replace(handle, dtype="<f8"), replace(handle, dtype="nonsense"),
            replace(handle, dtype="O"), replace(handle, shape=(-4, -5)), replace(handle, path=str(tmp_path)),
        ):  # fmt: skip
            with pytest.raises(InputError):
                SharedArray.attach(wrong)
    with pytest.raises(InputError, match="gone"):
        SharedArray.attach(handle)
    with pytest.raises(InputError, match="gone"):
        SharedArray.attach(SharedHandle(str(tmp_path / "missing"), "u1", (1,)))
