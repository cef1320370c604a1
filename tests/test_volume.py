"""Volumes go through every orientation and format unchanged, and what cannot be trusted is refused."""

import itertools
import subprocess
import sys

import h5py
import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import (
    WRITABLE_SUFFIXES,
    check_writable,
    is_readable,
    load_labels,
    load_volume,
    placed_box,
    same_grid,
    save_labels,
    save_map,
    short_name,
    volume_from_array,
    voxel_box,
)

SHAPE = (5, 6, 7)
ORIENTATIONS = [
    np.eye(3)[list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def rotate(degrees):
    """Return a rotation by three angles about x, y and z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        plane = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[np.ix_(plane, plane)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        matrix = matrix @ turn
    return matrix


def make_affine(matrix=None, spacing=(1.0, 1.0, 1.0), origin=(-3.0, 4.0, 5.0)):
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if matrix is None else matrix) * spacing
    affine[:3, 3] = origin
    return affine


def make_voxels(dtype=np.int16, shape=SHAPE):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def write_nifti(path, voxels=None, affine=None, image_class=nibabel.Nifti1Image):
    voxels = make_voxels() if voxels is None else voxels
    image = image_class(voxels, make_affine() if affine is None else affine, dtype=voxels.dtype)
    nibabel.save(image, path)
    return path


def write_itk(path, voxels=None, spacing=(0.5, 0.5, 3.0), compress=False):
    image = SimpleITK.GetImageFromArray(make_voxels() if voxels is None else voxels)
    image.SetSpacing(spacing)
    SimpleITK.WriteImage(image, str(path), useCompression=compress)
    return path


@st.composite
def grids(draw):
    angles = draw(st.tuples(*[st.floats(-30, 30)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.05, 12)] * 3))
    origin = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return make_affine(rotate(angles) @ draw(st.sampled_from(ORIENTATIONS)), spacing, origin)


@given(
    affine=grids(),
    dtype=st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]),
    image_class=st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image]),
    suffix=st.sampled_from([".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"]),
    seed=st.integers(0, 99),
)
def test_labels_go_back_bit_exactly(tmp_path_factory, affine, dtype, image_class, suffix, seed):
    folder = tmp_path_factory.mktemp("grid")
    voxels = make_voxels(dtype)
    volume = load_volume(write_nifti(folder / "image.nii", voxels, affine, image_class))
    assert np.abs(np.diag(volume.affine[:3, :3] / volume.spacing)).min() > 0.25  # each axis near its own
    index = np.array([1, 2, 3])
    world = (volume.affine @ [*index, 1])[2::-1] * [-1, -1, 1]  # z, y, x in LPS -> x, y, z in RAS
    place = np.rint(np.linalg.inv(affine) @ [*world, 1])[:3].astype(int)
    assert volume.data[(0, *index)] == voxels[tuple(place)]

    stored = np.random.default_rng(seed).integers(0, 3000, SHAPE, np.int32)
    labels = volume.grid.to_canonical(stored)
    save_labels(folder / f"labels{suffix}", labels, volume)
    assert np.array_equal(load_labels(folder / f"labels{suffix}", volume), labels)
    again = load_volume(folder / f"labels{suffix}")
    assert same_grid(again, volume) is None
    if suffix.startswith(".nii"):
        saved = nibabel.load(folder / f"labels{suffix}")
        assert np.array_equal(np.asarray(saved.dataobj), stored)
        assert np.array_equal(saved.affine, nibabel.load(folder / "image.nii").affine)
        assert type(saved) is image_class
        assert saved.get_data_dtype() == np.int16


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_every_orientation_has_the_same_content(tmp_path, matrix):
    reference = load_volume(write_nifti(tmp_path / "reference.nii"))
    image = nibabel.Nifti1Image(make_voxels(), make_affine())
    turned = image.as_reoriented(nibabel.io_orientation(make_affine(matrix, origin=(0, 0, 0))))
    volume = load_volume(write_nifti(tmp_path / "turned.nii", np.asarray(turned.dataobj), turned.affine))
    assert np.array_equal(volume.data, reference.data)
    assert same_grid(volume, reference) is None


@given(
    axes=st.permutations(range(3)), shear=st.floats(0.03, 0.9), sign=st.sampled_from([1, -1]), affine=grids()
)
def test_sheared_axes_are_refused(tmp_path_factory, axes, shear, sign, affine):
    bent = np.eye(3)
    bent[axes[0], axes[1]] = shear * sign
    affine[:3, :3] = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0) @ bent
    path = write_nifti(tmp_path_factory.mktemp("shear") / "image.nii", affine=affine)
    with pytest.raises(InputError, match="sheared"):
        load_volume(path)


def test_the_header_of_the_source_is_kept(tmp_path):
    image = nibabel.Nifti1Image(make_voxels(), make_affine(rotate((5, 6, 7)), (2, 1, 1)))
    image.header["descrip"] = b"scanner of the ward"
    image.header["cal_max"] = 200
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(image.affine, 4)
    image.set_qform(image.affine, 3)
    nibabel.save(image, tmp_path / "image.nii.gz")
    volume = load_volume(tmp_path / "image.nii.gz")
    save_labels(tmp_path / "labels.nii.gz", np.ones(volume.shape, bool), volume)
    header = nibabel.load(tmp_path / "labels.nii.gz").header
    kept = ("descrip", "qform_code", "sform_code", "xyzt_units", "pixdim", "srow_x", "srow_y", "srow_z",
            "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "dim")  # fmt: skip
    for field in kept:
        assert np.array_equal(header[field], image.header[field]), field
    assert header["cal_max"] == 0
    assert header.get_data_dtype() == np.uint8


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 7, 1), (5, 6, 7, 1, 3)])
def test_results_for_images_of_other_dimensions(tmp_path, shape):
    volume = load_volume(write_nifti(tmp_path / "image.nii", make_voxels(shape=shape)))
    assert volume.data.shape == ((*shape, 1, 1, 1)[4], (*shape, 1)[2], 6, 5)
    save_labels(tmp_path / "labels.nii", np.ones(volume.shape, int), volume)
    assert nibabel.load(tmp_path / "labels.nii").shape == shape[:3]
    save_map(tmp_path / "map.nii", np.full((4, *volume.shape), 0.25), volume)
    assert load_volume(tmp_path / "map.nii").data.shape == (4, *volume.shape)


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
@pytest.mark.parametrize("with_place", [True, False])
def test_arrays_without_a_file_are_saved_in_every_format(tmp_path, suffix, with_place):
    affine = make_affine(rotate((3, 4, 5)), (3, 0.5, 0.75)) if with_place else None
    volume = volume_from_array(make_voxels(), (3, 0.5, 0.75), affine)
    assert volume.spacing == pytest.approx((3, 0.5, 0.75))
    labels = make_voxels(np.int32) * 1000 - 5
    save_labels(tmp_path / f"labels{suffix}", labels, volume)
    assert np.array_equal(load_labels(tmp_path / f"labels{suffix}", volume), labels)
    probabilities = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    save_map(tmp_path / f"map{suffix}", probabilities, volume)
    save_map(tmp_path / f"entropy{suffix}", probabilities[0], volume)
    again = load_volume(tmp_path / f"map{suffix}")
    assert np.array_equal(again.data, probabilities)
    assert again.spacing == pytest.approx(volume.spacing)
    assert same_grid(again, volume) is None
    assert np.array_equal(load_volume(tmp_path / f"entropy{suffix}").data[0], probabilities[0])


@pytest.mark.parametrize("left", [0, 3, -30, -1])
def test_a_file_that_the_disk_cuts_off_is_told_and_leaves_the_one_before(tmp_path, monkeypatch, left):
    like = volume_from_array(make_voxels())
    save_labels(tmp_path / "mask.nrrd", make_voxels(), like)
    before = (tmp_path / "mask.nrrd").read_bytes()
    write = SimpleITK.WriteImage

    def cut_off(image, path, **options):
        write(image, path, **options)
        with open(path, "r+b") as file:
            file.truncate(left % len(before))

    monkeypatch.setattr(SimpleITK, "WriteImage", cut_off)
    with pytest.raises(InputError, match=f"^{tmp_path}/mask.nrrd cannot be written .it was cut off"):
        save_labels(tmp_path / "mask.nrrd", make_voxels(), like)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("mask.nrrd", before)]


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_a_failure_to_write_names_the_file_that_was_to_be(tmp_path, monkeypatch, suffix):
    write = SimpleITK.WriteImage
    monkeypatch.setattr(SimpleITK, "WriteImage", lambda image, path, **_: write(image, f"{path}/x{suffix}"))
    with pytest.raises(InputError, match=f"^{tmp_path}/mask{suffix} cannot be written") as caught:
        save_labels(tmp_path / f"mask{suffix}", make_voxels(), volume_from_array(make_voxels()))
    assert ".writing-" not in str(caught.value)


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 255, np.uint8), (0, 256, np.int16), (-1, 5, np.int16), (0, 40000, np.uint16), (0, 70000, np.int32)],
)
def test_the_smallest_sufficient_type_is_written(tmp_path, low, high, dtype):
    volume = load_volume(write_nifti(tmp_path / "image.nii"))
    labels = np.full(volume.shape, low, np.int64)
    labels[0, 0, 0] = high
    save_labels(tmp_path / "labels.nii", labels, volume)
    assert nibabel.load(tmp_path / "labels.nii").get_data_dtype() == dtype
    assert np.array_equal(load_labels(tmp_path / "labels.nii", volume), labels)


def test_what_cannot_be_saved_is_refused(tmp_path):
    volume = volume_from_array(make_voxels())
    labels = np.zeros(SHAPE, int)
    for path, values, reason in (
        ("a.nii", labels[1:], "the shape"),
        ("a.nii", labels + 0.5, "whole numbers"),
        ("a.nii", labels + 2**40, "does not fit in 32 bits"),
        ("a.png", labels, "its suffix is not one of"),
    ):
        with pytest.raises(InputError, match=reason):
            save_labels(tmp_path / path, values, volume)
    with pytest.raises(InputError, match="the shape"):
        save_map(tmp_path / "a.nii", labels[0], volume)
    with pytest.raises(InputError, match="suffix"):
        check_writable(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_two_file_format_takes_no_other_image_s_voxels(tmp_path):
    volume = volume_from_array(make_voxels())
    (tmp_path / "labels.zraw").write_text("of labels.nhdr")
    with pytest.raises(InputError, match="belongs to another image"):
        save_labels(tmp_path / "labels.mhd", np.zeros(SHAPE, int), volume)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.zraw"]
    save_labels(tmp_path / "other.mhd", np.zeros(SHAPE, int), volume)
    save_labels(tmp_path / "other.mhd", np.ones(SHAPE, int), volume)
    assert load_labels(tmp_path / "other.mhd", volume).min() == 1


def write_truncatable(path):
    """Write a file of any format, with voxels that do not compress away."""
    voxels = np.random.default_rng(0).integers(0, 30000, (20, 20, 20)).astype(np.int16)
    name = path.name
    if name.endswith((".nii", ".nii.gz")):
        write_nifti(path, voxels)
    elif name.endswith((".mgz", ".mgh")):
        nibabel.save(nibabel.MGHImage(voxels, np.eye(4)), path)
    elif name.endswith(".npy"):
        np.save(path, voxels)
    elif name.endswith(".npz"):
        np.savez_compressed(path, voxels)
    elif name.endswith(".h5"):
        with h5py.File(path, "w") as file:
            file["image"] = voxels
    elif name.endswith(".tif"):
        tifffile.imwrite(path, voxels)
    else:
        write_itk(path, voxels, compress="packed" in name)


@pytest.mark.parametrize(
    "name",
    ["a.nii", "a.nii.gz", "a.mgz", "a.mgh", "a.npy", "a.npz", "a.h5", "a.tif", "plain.nrrd", "packed.nrrd",
     "plain.mha", "packed.mha", "a.gipl", "a.gipl.gz"],
)  # fmt: skip
@pytest.mark.parametrize("share", [0.01, 0.6, 0.97])
def test_truncated_files_are_refused(tmp_path, name, share):
    path = tmp_path / name
    write_truncatable(path)
    assert load_volume(path).shape == (20, 20, 20)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError) as refusal:
        load_volume(path)
    assert name in str(refusal.value)
    assert str(refusal.value).count("\n") == 0


@pytest.mark.parametrize(("name", "voxels"), [("a.mhd", "a.raw"), ("a.nhdr", "a.raw"), ("a.hdr", "a.img")])
def test_incomplete_pairs_are_refused(tmp_path, name, voxels):
    path = tmp_path / name
    if name == "a.hdr":
        nibabel.save(nibabel.Nifti1Pair(make_voxels(), make_affine()), tmp_path / "a.img")
    else:
        write_itk(path)
    assert load_volume(path).data.shape == (1, *(SHAPE[::-1] if name == "a.hdr" else SHAPE))
    content = (tmp_path / voxels).read_bytes()
    (tmp_path / voxels).write_bytes(content[:-8])
    with pytest.raises(InputError, match=r"truncated|Expected"):
        load_volume(path)
    (tmp_path / voxels).unlink()
    with pytest.raises(InputError, match="missing"):
        load_volume(path)


def test_a_damaged_checksum_is_noticed(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 255  # in the checksum that ends a gzip stream
    path.write_bytes(content)
    with pytest.raises(InputError, match="CRC"):
        load_volume(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.nii", b"", "is empty"),
        ("a.nii", b"x" * 400, "not a NIfTI file"),
        ("a.nrrd", b"hello\n\n", "not a NRRD file"),
        ("a.mha", b"hello\n", "not a MetaImage file"),
        ("a.npy", b"hello", "cannot be read"),
        ("a.h5", b"hello", "cannot be read"),
        ("a.tif", b"hello", "cannot be read"),
        ("a.mgz", b"hello", "cannot be read"),
        ("a.xyz", b"hello", "suffix"),
        ("a.nrrd", b"version https://git-lfs.github.com/spec/v1\n", "git LFS pointer"),
        ("a.dcm", b"hello", "not DICOM"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=reason):
        load_volume(tmp_path / name)


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_volume(tmp_path / "a.nii")
    with pytest.raises(InputError, match="no file was given"):
        load_volume([])


def test_zero_spacing_is_refused(tmp_path):
    path = write_itk(tmp_path / "a.mha")
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 0.5", b"ElementSpacing = 0.0"))
    with pytest.raises(InputError, match=r"voxel size of 0 × 0\.5 × 3 mm"):
        load_volume(path)
    path = write_itk(tmp_path / "a.nrrd")
    path.write_bytes(path.read_bytes().replace(b"(0.5,0,0)", b"(0.0,0,0)"))
    with pytest.raises(InputError, match=r"voxel size of 0 × 0\.5 × 3 mm"):
        load_volume(path)
    with pytest.raises(InputError, match="zero"):
        volume_from_array(make_voxels(), (1, 0, 1))


def test_complex_numbers_are_refused(tmp_path):
    with pytest.raises(InputError, match="complex"):
        load_volume(write_nifti(tmp_path / "a.nii", make_voxels(np.complex64)))


def test_values_that_are_not_finite_are_counted_and_replaced(tmp_path):
    voxels = make_voxels(np.float64)
    voxels[0, 0, :4] = [np.nan, np.inf, -np.inf, 1e300]
    volume = load_volume(write_nifti(tmp_path / "a.nii", voxels))
    assert "1 NaN and 3 infinite" in volume.notes[0]
    low, high = voxels[np.isfinite(voxels) & (voxels < 1e9)].min(), voxels[voxels < 1e9].max()
    assert volume.grid.to_file(volume.data[0])[0, 0, :4].tolist() == [low, high, low, high]
    with pytest.raises(InputError, match="no finite value"):
        volume_from_array(np.full(SHAPE, np.nan))


def test_units_are_converted_to_mm(tmp_path):
    image = nibabel.Nifti1Image(make_voxels(), make_affine(spacing=(500, 250, 1000)))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "a.nii")
    volume = load_volume(tmp_path / "a.nii")
    assert volume.spacing == pytest.approx((1.0, 0.25, 0.5))
    assert "microns" in volume.notes[0]
    save_labels(tmp_path / "labels.nii", np.ones(volume.shape, int), volume)
    assert np.array_equal(nibabel.load(tmp_path / "labels.nii").affine, image.affine)


def test_channels_come_from_several_files_on_one_grid(tmp_path):
    image = nibabel.Nifti1Image(make_voxels(), make_affine())
    turned = image.as_reoriented(nibabel.io_orientation(make_affine(ORIENTATIONS[17], origin=(0, 0, 0))))
    paths = [
        write_nifti(tmp_path / "a.nii"),
        write_nifti(tmp_path / "b.nii", np.asarray(turned.dataobj), turned.affine),
    ]
    volume = load_volume(paths)
    assert volume.data.shape == (2, *SHAPE[::-1])
    assert np.array_equal(volume.data[0], volume.data[1])
    shifted = write_nifti(tmp_path / "c.nii", affine=make_affine(origin=(0, 0, 0)))
    with pytest.raises(InputError, match="c cannot be a channel of a"):
        load_volume([paths[0], shifted])


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_itk_images_of_two_and_four_dimensions_and_of_vectors(tmp_path, suffix):
    flat = write_itk(tmp_path / f"flat{suffix}", make_voxels(shape=(6, 7)), (0.5, 0.75))
    assert load_volume(flat).data.shape == (1, 1, 6, 7)
    vector = SimpleITK.GetImageFromArray(make_voxels(shape=(5, 6, 7, 3)), isVector=True)
    SimpleITK.WriteImage(vector, str(tmp_path / f"vector{suffix}"))
    assert load_volume(tmp_path / f"vector{suffix}").data.shape == (3, *SHAPE)
    series = SimpleITK.GetImageFromArray(make_voxels(shape=(2, 5, 6, 7)), isVector=False)
    SimpleITK.WriteImage(series, str(tmp_path / f"series{suffix}"))
    with pytest.raises(InputError, match="time series of 2"):
        load_volume(tmp_path / f"series{suffix}")
    second = load_volume(tmp_path / f"series{suffix}", frame=1)
    assert np.array_equal(second.data[0], make_voxels(shape=(2, 5, 6, 7))[1])


def test_arrays_take_the_spacing_given(tmp_path):
    np.save(tmp_path / "a.npy", make_voxels())
    assert "1 mm was assumed" in load_volume(tmp_path / "a.npy").notes[0]
    volume = load_volume(tmp_path / "a.npy", spacing=(2, 1, 0.5))
    assert volume.spacing == (2.0, 1.0, 0.5)
    assert not volume.notes
    assert np.array_equal(volume.data[0], make_voxels())
    with pytest.raises(InputError, match="its own voxel size"):
        load_volume(write_nifti(tmp_path / "a.nii"), spacing=(2, 1, 0.5))


def test_hdf5_asks_which_dataset(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = make_voxels()
        file["raw"].attrs["element_size_um"] = [235.0, 150.0, 150.0]
        file["group/label"] = make_voxels(np.uint16)
        file["names"] = [b"a", b"b"]
    with pytest.raises(InputError, match="the arrays group/label, raw; say which"):
        load_volume(path)
    volume = load_volume(f"{path}:/raw")
    assert volume.spacing == pytest.approx((0.235, 0.15, 0.15))
    assert np.array_equal(load_labels(f"{path}:group/label", volume), make_voxels())
    with pytest.raises(InputError, match="no image dataset other"):
        load_volume(f"{path}:other")


def test_archives_with_code_or_several_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "code.npz", data=np.array([[{}]], dtype=object))
    with pytest.raises(InputError, match="allow_pickle"):
        load_volume(tmp_path / "code.npz")
    np.savez(tmp_path / "two.npz", a=make_voxels(), b=make_voxels())
    with pytest.raises(InputError, match="the arrays a, b"):
        load_volume(tmp_path / "two.npz")
    np.savez(tmp_path / "one.npz", a=make_voxels(), spacing=[3, 1, 1])
    assert load_volume(tmp_path / "one.npz").spacing == (3.0, 1.0, 1.0)


def test_tiff_stacks_of_microscopes(tmp_path):
    path = tmp_path / "a.tif"
    settings = {"imagej": True, "resolution": (4.0, 5.0)}
    tifffile.imwrite(
        path, make_voxels(np.uint8), metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"}, **settings
    )
    volume = load_volume(path)
    assert volume.spacing == pytest.approx((2e-3, 2e-4, 2.5e-4))
    voxels = make_voxels(np.uint8, (2, 5, 3, 6, 7))
    tifffile.imwrite(path, voxels, metadata={"axes": "TZCYX"}, **settings)
    assert np.array_equal(load_volume(path, frame=1).data, voxels[1].swapaxes(0, 1))
    with pytest.raises(InputError, match="time series of 2"):
        load_volume(path)
    tifffile.imwrite(path, voxels[0, :, 0], metadata={"axes": "TYX"}, **settings)
    assert "taken as depth" in load_volume(path).notes[0]
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (3.0, 0.5, 0.25), strict=True)}
    tifffile.imwrite(tmp_path / "a.ome.tif", voxels[0], metadata={"axes": "ZCYX", **sizes})
    volume = load_volume(tmp_path / "a.ome.tif")
    assert volume.spacing == pytest.approx((3e-3, 5e-4, 2.5e-4))
    assert volume.data.shape == (3, 5, 6, 7)


def test_labels_must_be_whole_numbers_of_one_channel(tmp_path):
    volume = load_volume(write_nifti(tmp_path / "image.nii"))
    with pytest.raises(InputError, match="not whole numbers"):
        load_labels(write_nifti(tmp_path / "a.nii", make_voxels(np.float32) + 0.5), volume)
    with pytest.raises(InputError, match="do not fit in 32 bits"):
        load_labels(write_nifti(tmp_path / "a.nii", make_voxels(np.int64) + 2**40), volume)
    with pytest.raises(InputError, match="3 channels"):
        load_labels(write_nifti(tmp_path / "a.nii", make_voxels(shape=(*SHAPE, 1, 3))), volume)


def test_labels_near_45_degrees_follow_their_image(tmp_path):
    affine = make_affine(rotate((0, 0, 45)))
    nudged = make_affine(rotate((0, 0, 45.0001)))
    volume = load_volume(write_nifti(tmp_path / "image.nii", affine=affine))
    stored = make_voxels(np.uint8)
    labels = load_labels(write_nifti(tmp_path / "labels.nii", stored, nudged), volume)
    assert np.array_equal(volume.grid.to_file(labels), stored)


def test_same_grid_says_how_grids_differ():
    volume = volume_from_array(make_voxels(), affine=make_affine())
    assert (
        same_grid(volume, volume_from_array(make_voxels(), affine=make_affine(origin=(-3.001, 4, 5)))) is None
    )
    moved = volume_from_array(make_voxels(), affine=make_affine(origin=(-3, 4, 10)))
    assert "5 mm away" in same_grid(volume, moved)
    assert "4×6×7 voxels" in same_grid(volume, volume_from_array(make_voxels()[1:]))
    assert same_grid(moved, volume_from_array(make_voxels())) is None  # an array lies nowhere


@given(
    affine=grids(),
    box=st.tuples(*[st.lists(st.integers(-3, 9), min_size=2, max_size=2, unique=True).map(sorted)] * 3),
    units=st.sampled_from(["mm", "voxel"]),
    swapped=st.tuples(*[st.booleans()] * 3),
    nudge=st.floats(-0.4, 0.4),
)
def test_boxes_go_to_places_and_back(tmp_path_factory, affine, box, units, swapped, nudge):
    volume = load_volume(write_nifti(tmp_path_factory.mktemp("box") / "image.nii", affine=affine))
    start, stop = np.transpose(box)
    assert voxel_box(volume, placed_box(volume, start, stop, units), units).tolist() == [[*start], [*stop]]
    others = placed_box(volume, np.where(swapped, stop, start), np.where(swapped, start, stop), units)
    assert voxel_box(volume, others, units).tolist() == [[*start], [*stop]]
    near = placed_box(volume, start + nudge, stop - nudge, units)
    assert voxel_box(volume, near, units).tolist() == [[*start], [*stop]]
    flat = voxel_box(volume, placed_box(volume, start + nudge + 0.5, start + nudge + 0.5, units), units)
    assert np.array_equal(*flat)


def test_the_corners_of_a_box_are_the_borders_of_its_voxels():
    volume = volume_from_array(make_voxels(), (3, 2, 1))
    assert placed_box(volume, (0, 0, 0), (1, 2, 3)).tolist() == [[-0.5, -1, -1.5], [2.5, 3, 1.5]]
    assert placed_box(volume, (0, 0, 0), (1, 2, 3), "voxel").tolist() == [[0, 0, 0], [3, 2, 1]]
    centres = [[0, 0, 0], [2, 2, 3]]
    assert voxel_box(volume, centres).tolist() == [[0, 0, 0], [2, 2, 3]]


def test_names_and_suffixes(tmp_path):
    assert short_name(tmp_path / "ct.2.NII.GZ") == "ct.2"
    assert short_name(tmp_path) == tmp_path.name
    assert is_readable(tmp_path / "a.mha")
    assert not is_readable(tmp_path / "a.txt")
    assert not is_readable(tmp_path)


def test_readers_are_imported_only_when_a_file_needs_them():
    code = "import sys, napari_sparseseg.volume; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"nibabel", "SimpleITK", "pydicom", "tifffile", "h5py", "scipy", "torch"} & {*modules.split()}
