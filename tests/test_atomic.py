import os

import pytest

from napari_sparseseg.atomic import atomic_path, write_text
from napari_sparseseg.errors import InputError


def test_text_is_written_into_new_folders(tmp_path):
    write_text(tmp_path / "a" / "b" / "text.json", "é")
    assert (tmp_path / "a" / "b" / "text.json").read_text(encoding="utf-8") == "é"
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["text.json"]


def write_half(target, failure):
    with atomic_path(target) as temporary:
        temporary.write_text("half of the n")
        raise failure


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    target = tmp_path / "mask.nii.gz"
    target.write_text("old")
    with pytest.raises(failure):
        write_half(target, failure)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_new_file_appears_only_when_whole(tmp_path):
    target = tmp_path / "mask.nii.gz"
    target.write_text("old")
    with atomic_path(target) as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary != target
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


def test_a_full_disk_is_told_in_a_sentence(tmp_path):
    target = tmp_path / "mask.nii.gz"
    target.write_text("old")
    with pytest.raises(InputError, match="No space left on device"), atomic_path(target):
        raise OSError(28, os.strerror(28))
    assert target.read_text() == "old"


def test_a_place_that_cannot_be_written_is_told_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "file" / "text.json", "x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "folder", "x")


def test_a_writer_that_writes_nothing_is_noticed(tmp_path):
    with pytest.raises(InputError), atomic_path(tmp_path / "text"):
        pass
    assert not list(tmp_path.iterdir())
