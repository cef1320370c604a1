"""Every odd file of the shared data behaves as its record in expected.json says."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import load_labels, load_volume, same_grid

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "odd_files"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the real volumes of ../shared/data are not here")
RECORDS = json.loads((FOLDER / "expected.json").read_text()) if FOLDER.is_dir() else {}

REFUSED = {
    "BAD_truncated.nii.gz": "ended before",
    "BAD_truncated_raw.nii": "Expected 123200 bytes",
    "BAD_empty.nii.gz": "is empty",
    "BAD_text.nii.gz": "git LFS pointer",
    "sheared_sform.nii.gz": "sheared",
    "zero_pixdim.nii.gz": "voxel size of 0",
    "nibabel_test.mgz": "sheared",
}
NOTED = {
    "qform_sform_mismatch.nii.gz": "the sform was taken",
    "no_form.nii.gz": "neither qform nor sform",
    "nan_inf.nii.gz": "5280 NaN and 1760 infinite",
    "gz_named_nii.nii": "is gzip-compressed",
    "raw_named_gz.nii.gz": "is not compressed",
    "negative_pixdim.nii.gz": "negative voxel sizes",
    "oblique.gipl.gz": "keeps no orientation",
}
FRAMES = {
    "four_d.nii.gz": 3,
    "nibabel_functional.nii": 20,
    "nibabel_example4d.nii.gz": 2,
    "nibabel_example_nifti2.nii.gz": 2,
    "nibabel_example4d+orig.HEAD": 3,
    "nibabel_example4d+orig.BRIK.gz": 3,
    "nibabel_test.mgz": 2,
}
CHANNELS = {"vector_5d.nii.gz": 3, "rgb24.nii.gz": 3}
LABELS = [name for name in RECORDS if "label" in name]
OTHER_GRIDS = {
    "label_shifted_5mm.nii.gz": "up to 5 mm away",
    "label_2mm.nii.gz": "16×28×18 voxels of 2 × 2 × 2",
}


@pytest.fixture(scope="module")
def reference():
    return load_volume(FOLDER / "image_ref.nii.gz")


@pytest.fixture(scope="module")
def reference_labels(reference):
    return load_labels(FOLDER / "label_ref.nii.gz", reference)


@pytest.mark.parametrize("name", RECORDS)
def test_each_file_behaves_as_recorded(name):
    record = RECORDS[name]
    frame = 0 if name in FRAMES else None
    if name in REFUSED or name.startswith("BAD_"):
        with pytest.raises(InputError, match=REFUSED[name]) as refusal:
            load_volume(FOLDER / name, frame=frame)
        assert name in str(refusal.value)
        return
    volume = load_volume(FOLDER / name, frame=frame)
    assert np.isfinite(volume.data).all()
    assert len(volume.data) == CHANNELS.get(name, 1)
    assert bool(volume.notes) == (name in NOTED)
    assert NOTED.get(name, "") in " ".join(volume.notes)
    if "shape" in record:
        assert volume.grid.shape == (*record["shape"][:3], 1)[:3]
    if "zooms" in record:
        assert np.sort(volume.spacing) == pytest.approx(np.sort(record["zooms"]), rel=1e-5)
    if "axcodes" in record:
        codes = "".join(record["axcodes"][axis] for axis in volume.grid.axes)
        assert [code in "IAR" for code in codes] == list(volume.grid.flipped)
        assert [code in pair for code, pair in zip(codes, ("SI", "PA", "LR"), strict=True)] == [True] * 3
    if "sform" in record:
        assert volume.grid.affine == pytest.approx(np.diag([-1, -1, 1, 1]) @ record["sform"])


@pytest.mark.parametrize("name", FRAMES)
def test_a_time_series_asks_which_frame(name):
    with pytest.raises(InputError, match=f"time series of {FRAMES[name]} volumes"):
        load_volume(FOLDER / name)
    with pytest.raises(InputError, match=f"no frame {FRAMES[name]}"):
        load_volume(FOLDER / name, frame=FRAMES[name])


@pytest.mark.parametrize("codes", ["LPS", "LAS", "ASR", "PIR", "SLP"])
def test_orientation_does_not_change_the_content(codes, reference, reference_labels):
    volume = load_volume(FOLDER / f"image_{codes}.nii.gz")
    assert np.array_equal(volume.data, reference.data)
    assert same_grid(volume, reference) is None
    for image in (volume, reference):
        assert np.array_equal(load_labels(FOLDER / f"label_{codes}.nii.gz", image), reference_labels)


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_taken_on_their_own_grid_only(name, reference, reference_labels):
    if name.startswith("oblique"):
        labels = load_labels(FOLDER / name, load_volume(FOLDER / "oblique_aniso.nii.gz"))
        with pytest.raises(InputError, match="not on the grid"):
            load_labels(FOLDER / name, reference)
    elif name in OTHER_GRIDS:
        with pytest.raises(InputError, match=OTHER_GRIDS[name]) as refusal:
            load_labels(FOLDER / name, reference)
        assert "32×55×35 voxels of 1 × 1 × 1" in str(refusal.value)
        return
    else:
        labels = load_labels(FOLDER / name, reference)
    assert labels.dtype == np.int32
    ids = RECORDS[name].get("labels", [0, 1, 2])
    assert np.array_equal(labels, np.array(ids)[reference_labels])


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_other_formats_agree_with_nifti(suffix):
    nifti = load_volume(FOLDER / "oblique_aniso.nii.gz")
    other = load_volume(FOLDER / f"oblique{suffix}")
    assert same_grid(other, nifti) is None
    assert np.array_equal(other.data, nifti.data)


@pytest.mark.parametrize(
    "name", ["uint8.nii.gz", "nifti2.nii.gz", "bigendian.nii", "pair.hdr", "pair.img", "singleton_4d.nii.gz",
             "qform_only.nii.gz", "gz_named_nii.nii", "raw_named_gz.nii.gz", "negative_pixdim.nii.gz"]
)  # fmt: skip
def test_the_encoding_does_not_change_the_content(name, reference):
    volume = load_volume(FOLDER / name)
    assert np.array_equal(volume.data, reference.data)
    assert same_grid(volume, reference) is None


def test_scaling_is_applied():
    # The record's minimum and maximum are the *stored* numbers before rounding (-99.5 … -55), on which the
    # file's own slope and intercept have still to act; the formula of the record is what holds.
    stored = np.frombuffer(gzip.decompress((FOLDER / "scaled_int16.nii.gz").read_bytes())[352:], "<i2")
    values = 0.25 * stored.reshape(32, 55, 35)[:, ::-1, ::-1] - 100
    assert np.array_equal(load_volume(FOLDER / "scaled_int16.nii.gz").data[0], values)


def test_files_without_form_are_read_as_the_standard_says():
    volume = load_volume(FOLDER / "no_form.nii.gz")
    assert volume.spacing == (2.0, 0.5, 0.5)
    assert volume.grid.flipped == (False, True, True)  # RAS
