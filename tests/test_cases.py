import numpy as np
import pytest
import torch
from phantoms import make_image, make_truth

from napari_sparseseg.cases import Case, prepare_case
from napari_sparseseg.normalisation import fit_normalisation
from napari_sparseseg.sampling import PatchDraw, TrainingArrays, extract_patch

REGION = (slice(2, 14), slice(5, 18), slice(0, 11))


def make_case(region=None, spacing=(1.0, 1.0, 1.0)):
    truth = make_truth()
    image = make_image(truth)
    image[:, :, :, 15:] += 9  # outside the region, and part of the volume's statistics all the same
    return Case(image, spacing, truth + 1, np.ones(truth.shape, np.float32), region=region)


def test_a_region_is_cut_from_the_volume_normalised_as_a_whole():
    case = make_case(REGION)
    normalisation = fit_normalisation([case.image], [case.annotation])
    prepared = prepare_case(case, normalisation, case.spacing)
    expected = normalisation.apply(case.image)[(slice(None), *REGION)]
    np.testing.assert_array_equal(prepared.image, expected)
    np.testing.assert_array_equal(prepared.annotation, case.annotation[REGION])
    np.testing.assert_array_equal(prepared.weights, case.weights[REGION])
    assert prepared.start == (2, 5, 0)
    assert prepared.whole == (18, 18, 18)


def test_another_spacing_resamples_the_whole_case():
    prepared = prepare_case(
        case := make_case(REGION), fit_normalisation([case.image], [case.annotation]), (2.0, 1.0, 1.0)
    )
    assert prepared.image.shape == (1, 9, 18, 18)
    assert prepared.annotation.shape == prepared.weights.shape == prepared.whole == (9, 18, 18)
    assert prepared.spacing == (2.0, 1.0, 1.0)


@pytest.mark.parametrize("turned", [False, True])
def test_a_patch_of_a_region_has_the_positions_of_the_whole_volume(turned):
    angle = 0.2 if turned else 0.0
    matrix = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    patches = []
    for region in (None, REGION):
        case = make_case(region)
        prepared = prepare_case(case, fit_normalisation([case.image], [case.annotation]), case.spacing)
        arrays = TrainingArrays(
            torch.from_numpy(prepared.image), torch.from_numpy(prepared.annotation),
            torch.from_numpy(prepared.weights).half(),
            torch.zeros(prepared.annotation.shape, dtype=torch.uint8),
            prepared.spacing, prepared.start, prepared.whole,
        )  # fmt: skip
        centre = tuple(c - s for c, s in zip((8, 11, 5), prepared.start, strict=True))
        draw = PatchDraw(0, centre, matrix if turned else None, 1.0, 0.0, 1.0, 0.0, 0)
        patches.append(extract_patch(arrays, draw, (4, 4, 4), position=True))
    torch.testing.assert_close(patches[0].image, patches[1].image, atol=1e-4, rtol=0)
    assert torch.equal(patches[0].labels, patches[1].labels)
