import numpy as np
import pytest
from test_cli_pretrain import DATA, real

from napari_sparseseg.errors import InputError
from napari_sparseseg.volume_files import find_volumes


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def names_in(folder):
    return [path.relative_to(folder).as_posix() for path in find_volumes(folder)]


def test_volumes_are_found_in_folders_below_too(tmp_path):
    touch(tmp_path, "b.nii.gz", "a.mha", "notes.txt", ".hidden.nii", "deep/er/c.nrrd", ".cache/d.nii")
    assert names_in(tmp_path) == ["a.mha", "b.nii.gz", "deep/er/c.nrrd"]


@pytest.mark.parametrize(
    ("header", "values"), [("x.hdr", "x.img"), ("x+orig.HEAD", "x+orig.BRIK"), ("x.head", "x.brik.gz")]
)
def test_a_pair_of_files_is_one_volume(tmp_path, header, values):
    touch(tmp_path, header, values)
    assert names_in(tmp_path) == [header]


def test_values_without_a_header_are_named_so_that_they_can_be_complained_of(tmp_path):
    assert names_in(touch(tmp_path, "x.img")) == ["x.img"]


def test_slices_beside_each_other_are_one_volume(tmp_path):
    for name in ("series/IM1", "series/IM2", "series/1.2.840.7"):
        path = touch(tmp_path, name) / name
        path.write_bytes(b"\0" * 128 + b"DICM")
    np.savez(tmp_path / "series" / "other.npz", image=np.zeros((2, 2, 2)))
    assert names_in(tmp_path) == ["series", "series/other.npz"]


def test_an_empty_folder_holds_none(tmp_path):
    assert find_volumes(tmp_path) == ()


def test_a_folder_that_is_gone_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be looked into"):
        find_volumes(tmp_path / "gone")


def test_a_link_to_a_folder_above_is_not_followed(tmp_path):
    touch(tmp_path, "in/a.mha")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    assert names_in(tmp_path) == ["in/a.mha"]


@real
def test_the_real_folders():
    assert len(find_volumes(DATA / "hippocampus_mr" / "images")) == 100
