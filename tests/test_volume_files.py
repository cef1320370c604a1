import nibabel
import numpy as np
import pytest
import SimpleITK
from test_cli_pretrain import DATA, real
from test_dicom import write_slice

from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import load_volume, series_name, source_files
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


def write_slices(folder, series="1.2.3", count=3, **changes):
    for number in range(count):
        last = write_slice(folder, number, SeriesInstanceUID=series, **changes)
    return last.with_name(sorted(file.name for file in folder.iterdir() if file.name.startswith(series))[0])


def test_a_series_with_a_folder_to_itself_is_the_folder(tmp_path):
    write_slices(tmp_path / "series")
    (tmp_path / "series" / "notes.txt").write_text("")
    (tmp_path / "series" / ".hidden.dcm").write_text("what a file browser leaves")
    np.savez(tmp_path / "series" / "other.npz", image=np.zeros((2, 2, 2)))
    assert names_in(tmp_path) == ["series", "series/other.npz"]
    assert load_volume(tmp_path / "series").shape == (3, 4, 5)


def test_each_series_beside_others_is_one_of_its_files(tmp_path):
    first = write_slices(tmp_path, "1.1", 4)
    second = write_slices(tmp_path, "1.2", 5)
    write_slices(tmp_path / "below", "1.1", 3)
    assert find_volumes(tmp_path) == (first, second, tmp_path / "below")
    assert [len(load_volume(file).data[0]) for file in (first, second)] == [4, 5]
    assert [len(source_files(file)) for file in (first, second)] == [4, 5]


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"SeriesDescription": "3-plane Localiser"},
        {"SeriesDescription": "Scout"},
        {"ImagePositionPatient": None},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "Modality": "SEG"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2", "Modality": "RTDOSE"},
    ],
)
def test_what_is_no_image_of_a_patient_is_left_out(tmp_path, changes):
    write_slices(tmp_path, "1.1", 2, **changes)
    assert find_volumes(tmp_path) == ()
    file = write_slices(tmp_path, "1.2")
    assert len(find_volumes(tmp_path)) == 1
    assert load_volume(*find_volumes(tmp_path)).shape == (3, 4, 5)
    (tmp_path / "below").mkdir()
    assert find_volumes(tmp_path) == (file,)


def test_a_damaged_series_is_still_named_so_that_it_can_be_complained_of(tmp_path):
    damaged = tmp_path / "x.dcm"
    damaged.write_bytes(b"\0" * 128 + b"DICM" + b"\x08\0")
    assert find_volumes(tmp_path) == (damaged,)
    write_slices(tmp_path, NumberOfFrames="1")
    assert find_volumes(tmp_path) == (tmp_path,)
    with pytest.raises(InputError, match=r"x\.dcm is a damaged DICOM file"):
        load_volume(tmp_path)


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


@real
def test_structure_sets_are_no_volumes():
    tree = DATA / "dicom" / "sts_042_ct_mr_pet_rtstruct"
    assert names_in(tree) == ["CT/image", "MR_T1/image", "PET/image"]
    assert series_name(next((tree / "CT" / "image").iterdir())) == "3_IBSI_1_STS_042_CT_image"


def test_names_of_series(tmp_path):
    file = write_slices(tmp_path / "a" / "T1", SeriesNumber=4, SeriesDescription="T2* /ax: Müller?")
    assert series_name(file) == "4_T2_ax_Müller"
    assert series_name(file.parent) == "T1"
    assert series_name(tmp_path / "scan.nii.gz") == "scan"
    file = write_slices(tmp_path / "b")
    assert series_name(file) == file.name


def test_all_files_of_a_volume_are_told(tmp_path):
    image = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.uint8))
    for name in ("a.mhd", "b.nhdr", "c.mha"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
    pair = nibabel.Nifti1Pair(np.zeros((3, 4, 5), np.uint8), np.eye(4))
    nibabel.save(pair, tmp_path / "d.img")
    touch(tmp_path, "d.txt", "e.HEAD", "e.BRIK.gz", "f.npz", "broken.mhd")
    (tmp_path / "e.HEAD").write_text("?")
    (tmp_path / "broken.mhd").write_text("?")
    expected = {
        "a.mhd": ["a.mhd", "a.raw"],
        "b.nhdr": ["b.nhdr", "b.raw"],
        "c.mha": ["c.mha"],
        "d.img": ["d.hdr", "d.img"],
        "d.hdr": ["d.hdr", "d.img"],
        "e.HEAD": ["e.BRIK.gz", "e.HEAD"],
        "broken.mhd": ["broken.mhd"],
    }
    for name, files in expected.items():
        assert [file.name for file in source_files(tmp_path / name)] == files
    with pytest.raises(InputError, match="does not exist"):
        source_files(tmp_path / "gone.nii")
    with pytest.raises(InputError, match="no DICOM image"):
        source_files(tmp_path)
