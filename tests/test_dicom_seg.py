"""DICOM SEG: independent readers find the labels where the source series is, and its patient and study."""

import logging
import shutil
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from test_dicom import FOLDER, REFUSED, SETS, real, write_slice

from napari_sparseseg import formats
from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.errors import InputError
from napari_sparseseg.formats.stored import ignore_warnings
from napari_sparseseg.volume import (
    load_volume,
    save_segmentation,
    series_name,
    source_files,
    volume_from_array,
)
from napari_sparseseg.volume_files import find_volumes

READER = Path(sys.executable).with_name("segimage2itkimage")
SERIES = [name for name in SETS if name not in REFUSED] + [
    f"sts_042_ct_mr_pet_rtstruct/{modality}" for modality in ("CT", "MR_T1", "PET") if SETS
]
TABLE = ClassTable.from_values([5, 3, 9], {5: "bright", 3: "Übrig\\es", 9: "nowhere"})
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime")

GROUPS = "PerFrameFunctionalGroupsSequence"


def read_by_dcmqi(segmentation, folder):
    """Return a SimpleITK image for each segment."""
    folder.mkdir()
    command = [READER, "--inputDICOM", segmentation, "--outputDirectory", folder, "-t", "nrrd"]
    subprocess.run(command, check=True, capture_output=True)
    files = sorted(folder.glob("*.nrrd"), key=lambda file: int(file.stem))
    return [SimpleITK.ReadImage(str(file)) for file in files]


def read_by_itk(folder):
    """Return the source as SimpleITK reads it, without any code of ours; of colors the first."""
    files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = SimpleITK.ReadImage(files[0] if len(files) == 1 else files)
    return SimpleITK.VectorIndexSelectionCast(image) if image.GetNumberOfComponentsPerPixel() > 1 else image


def corners(image):
    size = np.array(image.GetSize()) - 1
    places = [image.TransformIndexToPhysicalPoint((size * corner).tolist()) for corner in np.ndindex(2, 2, 2)]
    return np.array(sorted(np.round(places, 2).tolist()))


def normal_of(image):
    return np.array(image.GetDirection()).reshape(3, 3)[:, 2]


def label(image, low, high):
    return np.where(image > high, 5, np.where(image > low, 3, 0)).astype(np.int32)


def between_values(image, share):
    """Return a threshold that no voxel has, above about this share of them."""
    below = np.quantile(image, share, method="lower")
    return (float(below) + float(image[image > below].min())) / 2


def own_folder(name):
    """Return the folder in which the slices themselves lie."""
    return next(file.parent for file in source_files(FOLDER / name))


@real
@pytest.mark.filterwarnings("ignore:The value length")  # what the source has too long, its segmentation has
@pytest.mark.parametrize("name", SERIES)
def test_a_segmentation_lies_on_the_grid_of_its_series(tmp_path, name):
    volume = load_volume(FOLDER / name)
    low, high = (between_values(volume.data[0], share) for share in (0.7, 0.95))
    path = tmp_path / "out.dcm"
    notes = save_segmentation(path, label(volume.data[0], low, high), TABLE, volume, model="UNet 2")
    segments = read_by_dcmqi(path, tmp_path / "read")
    source = read_by_itk(own_folder(name))
    values = SimpleITK.GetArrayFromImage(source)
    for number, (segment, expected) in enumerate(
        zip(segments, (values > high, (values > low) & (values <= high), values > np.inf), strict=True), 1
    ):
        assert segment.GetSize() == source.GetSize()
        assert np.allclose(corners(segment), corners(source), atol=0.02)
        found = SimpleITK.GetArrayFromImage(segment)
        if np.dot(normal_of(segment), normal_of(source)) < 0:
            found = found[::-1]
        assert np.array_equal(found, number * expected)
    check_references(pydicom.dcmread(path), source_files(FOLDER / name), notes)


def check_references(made, files, notes):
    """Check by pydicom alone that a segmentation belongs to its source, frame by frame."""
    tags = [
        *PATIENT,
        "StudyInstanceUID",
        "FrameOfReferenceUID",
        "SOPInstanceUID",
        "ImagePositionPatient",
        GROUPS,
    ]
    sources = [pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags) for file in files]
    for keyword in PATIENT:
        assert (made[keyword].value or "") == sources[0].get(keyword, "")
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if sources[0].get(keyword):
            assert made[keyword].value == sources[0][keyword].value
        else:
            assert made[keyword].value
            assert any(f"({keyword}); one was made up" in note for note in notes)
    assert made.Modality == "SEG"
    assert made.SegmentationType == "BINARY"
    assert [segment.SegmentLabel for segment in made.SegmentSequence] == ["bright", "Übrig es", "nowhere"]
    places = {}
    for source in sources:
        instance = source.get("SOPInstanceUID") or source.file_meta.MediaStorageSOPInstanceUID
        places[instance, None] = source.get("ImagePositionPatient")
        for number, frame in enumerate(source.get(GROUPS, ()), 1):
            places[instance, number] = frame.PlanePositionSequence[0].ImagePositionPatient
    referenced = made.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {item.ReferencedSOPInstanceUID for item in referenced} == {instance for instance, _ in places}
    for frame in made.PerFrameFunctionalGroupsSequence:
        item = frame.DerivationImageSequence[0].SourceImageSequence[0]
        place = places[item.ReferencedSOPInstanceUID, item.get("ReferencedFrameNumber")]
        assert np.allclose(frame.PlanePositionSequence[0].ImagePositionPatient, place, atol=1e-6)


@pytest.fixture
def series(tmp_path):
    """Return an oblique series of 5 slices, 2.5 mm apart but for rounding, and the folder it is in."""
    direction = [0.8, 0.6, 0, 0, 0, -1]
    normal = np.cross(direction[:3], direction[3:])
    for number, off in enumerate((0, 0.06, -0.05, 0.04, 0)):
        place = np.round([5, 6, 7] - (2.5 * number + off) * normal, 6).tolist()
        write_slice(
            tmp_path / "in",
            number,
            ImageOrientationPatient=direction,
            ImagePositionPatient=place,
            StudyInstanceUID="1.2.9",
        )
    return load_volume(tmp_path / "in"), tmp_path / "in"


def is_where(image, volume, truth):
    """Tell whether a segment holds `truth` ``(Z, Y, X)`` and nothing else, by the places of its voxels."""
    found = np.argwhere(SimpleITK.GetArrayFromImage(image))[:, ::-1].tolist()
    places = np.array([image.TransformIndexToPhysicalPoint(index) for index in found]).reshape(-1, 3)
    homogeneous = np.c_[np.argwhere(truth), np.ones(truth.sum())]
    expected = (homogeneous @ volume.affine.T)[:, 2::-1]
    distances = np.linalg.norm(places[:, np.newaxis] - expected, axis=-1)
    return len(places) == len(expected) and (not len(places) or distances.min(axis=0).max() < 0.2)


@pytest.mark.parametrize("chosen", [(), (0,), (19,), (0, 7, 13, 19), (9,)])
def test_whatever_is_labelled_the_grid_is_whole(tmp_path, series, chosen):
    volume, _ = series
    labels = np.zeros(volume.shape, np.uint8)
    for number in chosen:
        labels[np.unravel_index(number * labels.size // 20, labels.shape)] = (5, 3)[number % 2]
    path = tmp_path / "out.dcm"
    save_segmentation(path, labels, TABLE, volume)
    segments = read_by_dcmqi(path, tmp_path / "read")
    for segment, value in zip(segments, (5, 3, 9), strict=True):
        assert sorted(segment.GetSize()) == sorted(volume.shape)
        assert is_where(segment, volume, labels == value)
    frames = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    indices = [tuple(frame.FrameContentSequence[0].DimensionIndexValues) for frame in frames]
    assert {rank for _, rank in indices} == set(range(1, 1 + len({rank for _, rank in indices})))
    assert len(frames) == pydicom.dcmread(path).NumberOfFrames == len(set(indices))


def test_equal_results_are_equal_files_and_others_have_other_identifiers(tmp_path, series):
    volume, _ = series
    labels = label(volume.data[0], -995, -965)
    changed = labels.copy()
    changed[0, 0, 0] = 9
    texts, names = [], set()
    for number, (values, identity) in enumerate(
        [(labels, "a"), (labels, "a"), (labels, "b"), (changed, "a")]
    ):
        path = tmp_path / f"{number}.dcm"
        save_segmentation(path, values, TABLE, volume, model="m", identity=identity)
        texts.append(path.read_bytes())
        names.add(pydicom.dcmread(path).SOPInstanceUID)
    assert texts[0] == texts[1]
    assert len(names) == 3


def test_the_chosen_time_point_is_referred_to(tmp_path):
    for time in (1, 2):
        for number in range(3):
            write_slice(
                tmp_path / "in", number, TemporalPositionIdentifier=time, InstanceNumber=10 * time + number
            )
    volume = load_volume(tmp_path / "in", frame=1)
    save_segmentation(tmp_path / "out.dcm", np.full(volume.shape, 3), TABLE, volume)
    made = pydicom.dcmread(tmp_path / "out.dcm")
    assert len(made.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 3
    assert {file.name[6:8] for file, _ in volume.grid.slices} == {"20", "21", "22"}


@pytest.mark.filterwarnings("ignore:The value length")
def test_headers_that_break_rules_are_mended_in_silence(tmp_path, capfd, caplog):
    caplog.set_level(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(3):
            write_slice(
                tmp_path / "in",
                number,
                SpecificCharacterSet="ISO_IR 100",
                PatientName="Müller",
                PatientID="ID " * 40,
                SeriesDescription="Long " * 20,
                PatientSex="male",
                PatientBirthDate="1974",
                StudyTime="99:99",
            )
    caplog.clear()
    assert find_volumes(tmp_path) == (tmp_path / "in",)
    assert series_name(source_files(tmp_path / "in")[0]).startswith("Long_Long")
    volume = load_volume(tmp_path / "in")
    notes = save_segmentation(tmp_path / "out.dcm", np.full(volume.shape, 3), TABLE, volume)
    made = pydicom.dcmread(tmp_path / "out.dcm")
    assert str(made.PatientName) == "Müller"
    assert not any((made.PatientSex, made.PatientBirthDate, made.StudyTime))
    assert made.PatientID == ("ID " * 40).strip()
    assert len(notes) == 2
    assert not any("Müller" in record.getMessage() for record in caplog.records)
    assert not any(capfd.readouterr())


def test_threads_keep_each_other_silent():
    first_in, second_in, may_leave, first_out = (threading.Event() for _ in range(4))

    def first():
        with ignore_warnings():
            first_in.set()
            may_leave.wait(10)
        first_out.set()

    def second():
        first_in.wait(10)
        with ignore_warnings():
            second_in.set()
            first_out.wait(10)
            warnings.warn("what pydicom says", stacklevel=1)

    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(first), threads.submit(second)]
        second_in.wait(0.1)  # in vain, while one waits for the other
        may_leave.set()
    assert [done.result() for done in running] == [None, None]


def test_a_segmentation_in_its_folder_is_no_volume(series):
    volume, folder = series
    before = source_files(folder)
    save_segmentation(folder / "out.dcm", np.full(volume.shape, 3), TABLE, volume)
    again = load_volume(folder)
    assert np.array_equal(again.data, volume.data)
    assert again.notes == ("in: 1 SEG file(s) without an image were ignored.",)
    assert find_volumes(folder) == (folder,)
    assert source_files(folder) == source_files(before[0]) == before
    with pytest.raises(InputError, match="holds no DICOM image"):
        load_volume(folder / "out.dcm")


def test_what_cannot_be_a_segmentation_is_refused(tmp_path, series, monkeypatch):
    volume, _ = series
    labels = np.full(volume.shape, 3)
    path = tmp_path / "out.dcm"
    with pytest.raises(InputError, match="the labels hold 4, which no class"):
        save_segmentation(path, labels + 1, TABLE, volume)
    with pytest.raises(InputError, match="whole numbers"):
        save_segmentation(path, labels / 2, TABLE, volume)
    with pytest.raises(InputError, match=r"ends in \.dcm"):
        save_segmentation(tmp_path / "out.nrrd", labels, TABLE, volume)
    with pytest.raises(InputError, match="array was not read from one; choose another format"):
        save_segmentation(path, labels, TABLE, volume_from_array(volume.data))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save_segmentation(tmp_path / "file" / "out.dcm", labels, TABLE, volume)
    first, second = (file for file, _ in volume.grid.slices[:2])
    shutil.copy(second, first)
    with pytest.raises(InputError, match="has changed since it was read"):
        save_segmentation(path, labels, TABLE, volume)
    first.unlink()
    with pytest.raises(InputError, match="is gone"):
        save_segmentation(path, labels, TABLE, volume)
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install napari-sparseseg\[dicom\]"):
        save_segmentation(path, labels, TABLE, volume)
    assert not path.exists()
