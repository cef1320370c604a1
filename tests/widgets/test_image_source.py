"""From any Image layer to (C, Z, Y, X) in millimetres."""

import dask.array
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.layers import Image

from napari_sparseseg.errors import InputError
from napari_sparseseg.napari_hooks import VOLUME_KEY
from napari_sparseseg.volume import load_labels, load_volume, save_labels, save_map, volume_from_array
from napari_sparseseg.widgets.image_source import MOST_CHANNELS, prepare_reading


def read(data, **arguments):
    return prepare_reading(Image(data, name="scan", **arguments))()


@given(
    st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, bool]),
    st.sampled_from([(9, 8), (5, 9, 8), (2, 5, 9, 8)]),
)
def test_every_type_and_number_of_axes(dtype, shape):
    values = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    source = read(values)
    data = source.volume.data
    assert data.dtype == np.float32
    assert data.shape == (shape[0] if len(shape) == 4 else 1, *((1,) * (3 - len(shape)) + shape)[-3:])
    assert np.array_equal(data.reshape(shape), values.astype(np.float32))
    assert source.placement.ndim == min(3, len(shape))


@pytest.mark.parametrize("shape", [(9, 8, 3), (5, 9, 8, 3)])
def test_colors_are_channels(shape):
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    data = read(values, rgb=True).volume.data
    assert data.shape == (3, *((1,) * (4 - len(shape)) + shape[:-1]))
    assert np.array_equal(np.moveaxis(data, 0, -1).reshape(shape), values)


def test_lazy_and_multiscale_data():
    values = np.random.default_rng(0).random((6, 16, 16), np.float32)
    assert np.array_equal(read(dask.array.from_array(values, chunks=4)).volume.data[0], values)
    source = read([values, values[:, ::2, ::2]], multiscale=True)
    assert np.array_equal(source.volume.data[0], values)


def test_what_cannot_be_worked_on_is_told_in_a_sentence():
    with pytest.raises(InputError, match=f"at most {MOST_CHANNELS} channels"):
        prepare_reading(Image(np.zeros((MOST_CHANNELS + 1, 4, 4, 4))))
    with pytest.raises(InputError, match="2D or 3D"):
        prepare_reading(Image(np.zeros((2, 2, 4, 4, 4))))
    with pytest.raises(InputError, match="sheared"):
        prepare_reading(Image(np.zeros((4, 4, 4)), shear=(0.2, 0, 0)))
    with pytest.raises(InputError, match="finite"):
        read(np.full((4, 4, 4), np.nan))


def test_spacing_and_place_come_from_the_whole_transform(tmp_path):
    turn = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    values = np.random.default_rng(0).random((4, 5, 6), np.float32)
    source = read(values, scale=(3, 0.5, 0.75), translate=(5, 6, 7), rotate=turn)
    assert source.volume.spacing == pytest.approx((3, 0.5, 0.75))
    assert source.volume.affine[:3, :3] == pytest.approx(turn * [3, 0.5, 0.75])
    assert source.voxel_ml == pytest.approx(3 * 0.5 * 0.75 / 1000)
    labels = (values > 0.5).astype(np.uint8)
    save_labels(tmp_path / "mask.nii.gz", labels, source.volume)
    back = load_volume(tmp_path / "mask.nii.gz")
    assert back.affine == pytest.approx(source.volume.affine, abs=1e-5)
    assert np.array_equal(load_labels(tmp_path / "mask.nii.gz", source.volume), labels)


def test_values_that_are_not_finite_are_replaced():
    values = np.ones((4, 5, 6), np.float32)
    values[0, 0, 0], values[1, 1, 1] = np.nan, np.inf
    assert np.array_equal(read(values).volume.data[0], np.ones((4, 5, 6)))


def test_a_volume_brings_all_its_channels_and_its_file(tmp_path):
    values = np.random.default_rng(0).random((2, 4, 5, 6), np.float32)
    volume = volume_from_array(values, spacing=(3, 1, 1))
    source = read(volume.data[1], metadata={VOLUME_KEY: volume}, affine=volume.affine)
    assert source.volume is volume
    assert source.path == ""
    copied = read(volume.data[1].copy(), metadata={VOLUME_KEY: volume})
    assert copied.volume is volume
    other = read(values[0] * 2, metadata={VOLUME_KEY: volume})  # a layer derived from it is another image
    assert other.volume is not volume
    assert np.array_equal(other.volume.data[0], values[0] * 2)


def test_a_file_is_remembered_where_it_can_be_read_again(tmp_path, viewer):
    values = np.random.default_rng(0).random((4, 5, 6), np.float32)
    path = tmp_path / "scan.nii.gz"
    save_map(path, values, volume_from_array(values, spacing=(3, 1, 1)))
    (layer,) = viewer.open(str(path), plugin="napari-sparseseg")
    source = prepare_reading(layer)()
    assert source.path == str(path)
    assert source.volume.grid.nifti_header is not None


def test_fingerprints_tell_images_apart_and_know_one_again():
    values = np.random.default_rng(0).random((40, 50, 60), np.float32)
    first = read(values, scale=(3, 1, 1)).fingerprint
    assert first == read(values.astype(np.float64), scale=(3, 1, 1)).fingerprint
    assert first != read(values, scale=(2, 1, 1)).fingerprint
    assert first != read(values[::-1], scale=(3, 1, 1)).fingerprint
    assert first != read(values[:-1], scale=(3, 1, 1)).fingerprint
