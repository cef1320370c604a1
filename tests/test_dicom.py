"""DICOM: real series agree with their NIfTI, and what is not a straight even stack is refused."""

import re
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import load_labels, load_volume, same_grid, save_labels

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "dicom"
real = pytest.mark.skipif(not FOLDER.is_dir(), reason="the real volumes of ../shared/data are not here")
SETS = sorted(path.name for path in FOLDER.iterdir() if path.is_dir()) if FOLDER.is_dir() else []

REFUSED = {
    "failing_gantrytilting": "gantry tilt of 14.0°",
    "failing_slicecount": "too few slices",
    "failing_sliceincrement_002": "a slice is missing",
    "failing_sliceorientation": "different orientations",
    "sts_042_ct_mr_pet_rtstruct": r"3 series; .*CT/image.*; .*MR_T1/image.*; .*PET/image",
}
CHANNELS = {"generic_rgb": 3}


@real
@pytest.mark.parametrize("name", SETS)
def test_each_series_behaves_as_its_record_says(name):
    if name in REFUSED or name.startswith("failing_"):
        with pytest.raises(InputError, match=REFUSED[name]) as refusal:
            load_volume(FOLDER / name)
        assert name in str(refusal.value)
        return
    volume = load_volume(FOLDER / name)
    assert len(volume.data) == CHANNELS.get(name, 1)
    truths = [*(FOLDER / name).glob("*_ground_truth.nii.gz"), *FOLDER.glob(f"{name}_ground_truth.nii.gz")]
    for truth in map(load_volume, truths):
        assert same_grid(volume, truth) is None
        assert np.allclose(volume.data, truth.data, rtol=1e-6, atol=0)
    assert truths or name == "ct_jpeg2000_20slices"


@real
def test_labels_beside_a_series_fit_it():
    volume = load_volume(FOLDER / "ct_jpeg2000_20slices")
    labels = load_labels(FOLDER / "ct_jpeg2000_20slices_totalseg_labels.nii.gz", volume)
    bone_or_organ = volume.data[0][labels > 0].mean()
    assert bone_or_organ > volume.data[0][labels == 0].mean() + 100  # against air and fat, if it is in place


@real
@pytest.mark.parametrize(
    ("name", "modality"), [("CT_image", "CT"), ("MR_T1_image", "MR_T1"), ("PET_image", "PET")]
)
def test_series_with_structure_sets(name, modality):
    volume = load_volume(FOLDER / "sts_042_ct_mr_pet_rtstruct" / modality)
    assert "1 RTSTRUCT file(s) without an image were ignored" in volume.notes[0]
    one = load_volume(next((FOLDER / "sts_042_ct_mr_pet_rtstruct" / modality / "image").glob("*.dcm")))
    assert np.array_equal(one.data, volume.data)


def write_slice(folder, number, **changes):
    """Write a 4×5 slice with the value 10 × number at 2 mm steps."""
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=[str(number)])
    header.Modality, header.SeriesInstanceUID, header.InstanceNumber = "CT", "1.2.3", number
    header.Rows, header.Columns, header.SamplesPerPixel = 4, 5, 1
    header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME2", 1
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelSpacing, header.ImageOrientationPatient = [0.5, 0.75], [1, 0, 0, 0, 1, 0]
    header.ImagePositionPatient = [-7, 3, 2.0 * number]
    header.RescaleSlope, header.RescaleIntercept = 1, -1000
    for keyword, value in changes.items():
        setattr(header, keyword, value)
    pixels = np.full((header.Rows, header.Columns), 10 * number, np.int16)
    pixels[0, 1] += 1
    header.PixelData = pixels.tobytes()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{header.SeriesInstanceUID}-{header.InstanceNumber:02d}-{len(list(folder.iterdir()))}"
    pydicom.dcmwrite(path, header, enforce_file_format=True)
    return path


def test_slices_are_ordered_by_place_and_scaled_one_by_one(tmp_path):
    for number in (3, 1, 2, 4):
        write_slice(tmp_path, number, InstanceNumber=9 - number, RescaleSlope=number)
    volume = load_volume(tmp_path)
    assert volume.shape == (4, 4, 5)
    assert volume.spacing == pytest.approx((2.0, 0.5, 0.75))
    assert volume.data[0, :, 1, 1].tolist() == [10 * n * n - 1000 for n in (1, 2, 3, 4)]
    assert volume.data[0, 0, 0, 1] == -989
    assert (volume.affine @ [1, 2, 3, 1])[:3] == pytest.approx([4, 4, -4.75])


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_results_of_a_series_lie_where_it_lies(tmp_path, suffix):
    direction = [0.8, 0.6, 0, 0, 0, -1]
    normal = np.cross(direction[:3], direction[3:])
    for number in range(4):
        write_slice(
            tmp_path / "in",
            number,
            ImageOrientationPatient=direction,
            ImagePositionPatient=[float(f"{value:.6f}") for value in [5, 6, 7] - 3 * number * normal],
        )
    volume = load_volume(tmp_path / "in")
    labels = np.arange(np.prod(volume.shape), dtype=np.int32).reshape(volume.shape)
    save_labels(tmp_path / f"out{suffix}", labels, volume)
    again = load_volume(tmp_path / f"out{suffix}")
    assert same_grid(again, volume) is None
    assert np.array_equal(again.data[0], labels)


def test_a_time_series_asks_which_frame(tmp_path):
    for time in (1, 2):
        for number in range(3):
            write_slice(tmp_path, number, TemporalPositionIdentifier=time, RescaleIntercept=1000 * time)
    with pytest.raises(InputError, match="time series of 2 volumes"):
        load_volume(tmp_path)
    assert load_volume(tmp_path, frame=1).data[0, :, 1, 1].tolist() == [2000, 2010, 2020]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Rows": 6}, "different sizes (4×5, 6×5)"),
        ({"PixelSpacing": [0.5, 0.8]}, "different pixel spacing"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "different orientations"),
        ({"ImagePositionPatient": [-7, 3, 9]}, "a slice is missing or too many"),
        ({"ImagePositionPatient": [-7, 13, 6]}, "shifted against each other"),
        ({"ImagePositionPatient": [-7, 3, 4]}, "more slices at some places"),
        ({"ImagePositionPatient": None}, "ImagePositionPatient is missing"),
        ({"SeriesInstanceUID": "1.2.4"}, "2 series"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "Siemens mosaic"),
        ({"NumberOfFrames": 2}, "multi-frame"),
    ],
)
def test_what_is_not_a_stack_is_refused(tmp_path, changes, reason):
    for number in (1, 2, 4, 5):
        write_slice(tmp_path, number)
    write_slice(tmp_path, 3, **changes)
    with pytest.raises(InputError, match=re.escape(reason)) as refusal:
        load_volume(tmp_path)
    assert str(tmp_path) in str(refusal.value)


def test_damaged_and_missing_slices_are_refused(tmp_path):
    files = [write_slice(tmp_path, number) for number in range(4)]
    (tmp_path / "notes.txt").write_text("not DICOM")
    assert load_volume(tmp_path).shape == (4, 4, 5)
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[:-10])
    with pytest.raises(InputError, match=files[2].name):
        load_volume(tmp_path)
    files[2].write_bytes(whole[:100])
    with pytest.raises(InputError, match="a slice is missing"):
        load_volume(tmp_path)
    shutil.rmtree(tmp_path / "empty", ignore_errors=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no DICOM image"):
        load_volume(tmp_path / "empty")
