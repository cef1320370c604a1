import json

import numpy as np
import pytest

from napari_sparseseg.errors import InputError
from napari_sparseseg.normalisation import Normalisation, fit_normalisation


def make_scan(seed=0, scale=1.0, offset=0.0):
    values = np.random.default_rng(seed).normal(size=(1, 10, 12, 14))
    return (values * scale + offset).astype(np.float32)


def label(image):
    annotation = np.zeros(image.shape[1:], np.uint8)
    annotation[3:6, 4:8, 4:8] = 2
    annotation[0] = 1
    return annotation


def make_ct(seed=0):
    """Return air, and tissue of 40 Hounsfield units where `label` says class."""
    image = np.full((1, 10, 12, 14), -1000, np.float32)
    image[0, 2:8] = 200
    image[0, 3:6, 4:8, 4:8] = 40 + np.random.default_rng(seed).normal(0, 10, (3, 4, 4))
    return image


def test_each_volume_without_units_is_normalised_by_itself():
    images = [make_scan(0), make_scan(1, scale=50, offset=300)]
    normalisation = fit_normalisation(images, [label(image) for image in images])
    assert normalisation.windows == (None,)
    for image in images:
        normalised = normalisation.apply(image)
        assert normalised.mean() == pytest.approx(0, abs=1e-3)
        assert normalised.std() == pytest.approx(1, abs=1e-2)


def test_scale_and_offset_of_a_scanner_do_not_matter():
    normalisation = Normalisation((None,))
    assert normalisation.apply(make_scan()) == pytest.approx(
        normalisation.apply(make_scan(scale=7, offset=90)), abs=1e-3
    )


def test_ct_has_one_window_round_the_labelled_tissue_for_all():
    images = [make_ct(0), make_ct(1)]
    normalisation = fit_normalisation(images, [label(image) for image in images])
    low, high, mean, deviation = normalisation.windows[0]
    assert -40 < low < 20
    assert 60 < high < 120
    assert 35 < mean < 45
    assert deviation > 1
    shifted = make_ct(0) + 5
    difference = normalisation.apply(shifted) - normalisation.apply(make_ct(0))
    assert difference[0, 4, 5, 5] == pytest.approx(5 / deviation, rel=1e-3)  # units are kept
    assert difference[0, 0, 0, 0] == 0  # air is cut off


def test_ct_is_told_by_air_in_every_volume():
    images = [make_ct(), make_scan()]
    assert fit_normalisation(images, [label(image) for image in images]).windows == (None,)


def test_channels_are_told_apart():
    image = np.concatenate([make_scan(), make_ct()])
    normalisation = fit_normalisation([image], [label(image)])
    assert normalisation.windows[0] is None
    assert normalisation.windows[1] is not None
    assert normalisation.apply(image).shape == image.shape


@pytest.mark.parametrize("value", [0.0, -5.0, 1e6])
def test_a_constant_image_is_zero(value):
    image = np.full((1, 4, 4, 4), value, np.float32)
    assert (Normalisation((None,)).apply(image) == 0).all()


def test_a_constant_class_in_ct_gives_a_window():
    image = make_ct()
    image[0, 3:6, 4:8, 4:8] = 40
    normalisation = fit_normalisation([image], [label(image)])
    assert np.isfinite(normalisation.apply(image)).all()
    assert Normalisation.from_json(normalisation.to_json()) == normalisation


def test_single_bright_voxels_are_clipped():
    image = make_scan()
    image[0, 0, 0, 0] = 1e6
    assert Normalisation((None,)).apply(image).max() < 10


def test_applying_leaves_the_image_as_it_is():
    image = make_scan()
    before = image.copy()
    Normalisation((None,)).apply(image)
    assert np.array_equal(image, before)


def test_it_round_trips_through_json():
    normalisation = Normalisation((None, (-100.0, 200.5, 3.0, 40.0)))
    assert Normalisation.from_json(json.loads(json.dumps(normalisation.to_json()))) == normalisation


@pytest.mark.parametrize(
    "rows",
    [None, 5, [5], ["abcd"], [[1, 2, 3]], [[2, 1, 0, 1]], [[0, 1, 0, 0]], [[0, 1, float("nan"), 1]]],
    ids=str,
)
def test_other_json_is_refused(rows):
    with pytest.raises(InputError):
        Normalisation.from_json(rows)
