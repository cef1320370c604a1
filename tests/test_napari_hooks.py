"""The reader, writers and samples that napari calls."""

import numpy as np
import pytest

from napari_sparseseg.errors import InputError
from napari_sparseseg.napari_hooks import (
    VOLUME_KEY,
    get_reader,
    open_sample_mni,
    open_sample_synthetic,
    write_image,
    write_labels,
)
from napari_sparseseg.volume import READABLE_SUFFIXES, load_labels, load_volume, save_map, volume_from_array

AFFINE = np.array([[3.0, 0, 0, 5], [0, 0.5, 0, 6], [0, 0, 0.75, 7], [0, 0, 0, 1]])


@pytest.fixture
def saved(tmp_path):
    values = np.random.default_rng(0).random((2, 4, 5, 6), np.float32)
    path = tmp_path / "scan.nii.gz"
    save_map(path, values, volume_from_array(values, affine=AFFINE))
    return path, values


def test_the_reader_takes_what_it_knows(tmp_path, saved):
    path, _ = saved
    assert get_reader(str(tmp_path / "notes.txt")) is None
    assert get_reader(str(tmp_path)) is None
    assert get_reader([]) is None
    assert get_reader([str(path), str(path)]) is not None


def test_each_channel_is_a_layer_in_its_place(saved):
    path, values = saved
    layers = get_reader(str(path))(str(path))
    assert [kind for _, _, kind in layers] == ["image", "image"]
    assert [attributes["name"] for _, attributes, _ in layers] == ["scan [0]", "scan [1]"]
    for channel, (data, attributes, _) in zip(values, layers, strict=True):
        assert np.array_equal(data, channel)
        assert attributes["affine"] == pytest.approx(AFFINE)
        assert attributes["metadata"]["notes"] == ()


def test_labels_return_to_the_grid_of_their_image(tmp_path, saved):
    path, _ = saved
    _, attributes, _ = get_reader(str(path))(str(path))[0]
    labels = np.random.default_rng(1).integers(0, 5, (4, 5, 6))
    target = str(tmp_path / "labels.nrrd")
    assert write_labels(target, labels, {"metadata": attributes["metadata"]}) == [target]
    assert np.array_equal(load_labels(target, attributes["metadata"][VOLUME_KEY]), labels)


def test_layers_of_another_origin_keep_their_transform(tmp_path):
    turn = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    attributes = {
        "scale": (3, 0.5, 0.75),
        "translate": (5, 6, 7),
        "rotate": turn,
        "shear": (0, 0, 0),
        "name": "mine",
    }
    data = np.random.default_rng(0).random((4, 5, 6), np.float32)
    target = str(tmp_path / "image.nii.gz")
    assert write_image(target, data, attributes) == [target]
    volume = load_volume(target)
    assert np.array_equal(volume.data[0], data)
    assert volume.affine[:3, :3] == pytest.approx(turn * [3, 0.5, 0.75], abs=1e-6)
    assert volume.affine[:3, 3] == pytest.approx([5, 6, 7])
    with pytest.raises(InputError, match="sheared"):
        write_image(target, data, {"shear": (0.1, 0, 0)})
    with pytest.raises(InputError, match="2 dimensions"):
        write_image(target, data[0], {})


@pytest.mark.parametrize("sample", [open_sample_mni, open_sample_synthetic])
def test_samples_are_an_image_and_its_labels(sample):
    *images, (labels, attributes, kind) = sample()
    assert kind == "labels"
    assert labels.dtype == np.int32
    assert [layer[2] for layer in images] == ["image"] * len(images)
    assert images[0][0].shape == labels.shape
    assert attributes["metadata"]["class_table"][0]["name"] == "background"
    assert np.array_equal(attributes["affine"], images[0][1]["affine"])


def test_the_manifest_is_valid_and_names_every_suffix():
    npe2 = pytest.importorskip("npe2", reason="npe2 comes with the extra [dev]")
    manifest = npe2.PluginManifest.from_distribution("napari-sparseseg")
    manifest.validate_imports()
    assert {p[1:].lower() for p in manifest.contributions.readers[0].filename_patterns} == {
        *READABLE_SUFFIXES
    }
