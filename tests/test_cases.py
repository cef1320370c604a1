from dataclasses import replace

import numpy as np
import pytest
import torch
from phantoms import make_image, make_truth

from napari_sparseseg.annotation import ClassTable, source_code
from napari_sparseseg.cases import (
    Case,
    balance_classes,
    crop_case,
    find_measurable,
    fingerprint_cases,
    join_seeds,
    measurable_labels,
    prepare_case,
    weigh_case,
)
from napari_sparseseg.errors import InputError
from napari_sparseseg.image_labels import ImageLabel
from napari_sparseseg.normalisation import fit_normalisation
from napari_sparseseg.sampling import PatchDraw, TrainingArrays, extract_patch
from napari_sparseseg.settings import NetworkConfig, TrainingConfig

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


def make_seeded():
    """A case of two strokes' slices and a slice of seeds that also covers a part of one of them."""
    truth = make_truth()
    labels, seeds = (np.zeros(truth.shape, np.uint8) for _ in range(2))
    labels[5], labels[9] = truth[5] + 1, truth[9] + 1
    seeds[9, :4], seeds[12] = 3, truth[12] + 1
    annotation, sources = join_seeds(labels, seeds)
    return Case(make_image(truth), (1.0, 1.0, 1.0), annotation, sources=sources), labels, seeds


def test_labels_win_over_seeds():
    case, labels, seeds = make_seeded()
    np.testing.assert_array_equal(case.annotation[labels > 0], labels[labels > 0])
    np.testing.assert_array_equal(case.annotation[labels == 0], seeds[labels == 0])
    assert set(np.unique(case.sources[labels > 0])) == {source_code("stroke")}
    assert set(np.unique(case.sources[(labels == 0) & (seeds > 0)])) == {source_code("cam")}
    assert not case.sources[case.annotation == 0].any()


def test_one_of_labels_and_seeds_is_enough():
    _, labels, seeds = make_seeded()
    assert join_seeds(labels, None) == (labels, None)
    assert join_seeds(None, seeds)[0] is seeds
    with pytest.raises(InputError, match="nothing to learn from"):
        join_seeds(None, None)


def test_seeds_weigh_what_seeding_says():
    case, labels, _ = make_seeded()
    own = np.full(labels.shape, 0.5, np.float32)
    usual, twice, none = (weigh_case(replace(case, weights=own), seeding) for seeding in (1.0, 2.0, 0.0))
    weak = (case.annotation > 0) & (labels == 0)
    for weighed, weight in ((usual, 0.15), (twice, 0.3)):
        np.testing.assert_allclose(weighed.weights[weak], weight)
        np.testing.assert_allclose(weighed.weights[labels > 0], 0.5)
        np.testing.assert_array_equal(weighed.annotation, case.annotation)
    np.testing.assert_array_equal(none.annotation, labels)
    assert not none.weights[weak].any()
    plain = replace(case, sources=None)
    assert weigh_case(plain, 0.0) is plain


def test_nothing_is_measured_by_seeds_unless_they_are_all_there_is():
    case, labels, _ = make_seeded()
    alone = replace(case, sources=np.where(case.annotation > 0, source_code("cam"), 0).astype(np.uint8))
    assert not find_measurable([case, alone])
    np.testing.assert_array_equal(measurable_labels(case, derived=False), labels)
    assert not measurable_labels(alone, derived=False).any()
    assert find_measurable([alone])
    assert measurable_labels(alone, derived=True) is alone.annotation
    assert not find_measurable([replace(case, sources=None)])


def test_the_fingerprint_is_that_of_versions_that_lacked_later_settings():
    case = Case(
        np.arange(512, dtype=np.float32).reshape(1, 8, 8, 8), (1.0,) * 3, np.zeros((8, 8, 8), np.uint8)
    )
    settings = (NetworkConfig(), ClassTable.from_values([2, 3]))
    plain = fingerprint_cases([case], TrainingConfig(steps=5), *settings)
    assert plain == "fed3559782cc9822a6cba4fff859b6c70eecb08e7d22612d5db3b4925dd0caa0"  # as of 48f7bef
    changes = ({"seeding": 0.5}, {"expansion": 1.0}, {"constraint": 1.0}, {"steps": 6})
    others = {fingerprint_cases([case], TrainingConfig(**{"steps": 5, **c}), *settings) for c in changes}
    assert len(others | {plain}) == 5


def test_where_voxels_grow_the_strongest_source_stays():
    case, labels, _ = make_seeded()
    labels = labels.copy()
    labels[12:14, :2] = 0
    labels[13, 0] = 1  # a stroke of background beside seeds of a class
    annotation, sources = join_seeds(labels, np.where(labels == 0, case.annotation, 0).astype(np.uint8))
    annotation[12, 0], sources[12, 0] = 2, source_code("cam")
    case = replace(case, annotation=annotation, sources=sources)
    prepared = prepare_case(case, fit_normalisation([case.image], [annotation]), (2.0, 1.0, 1.0))
    assert set(prepared.annotation[6, 0].tolist()) == {1}
    assert set(prepared.sources[6, 0].tolist()) == {source_code("stroke")}
    assert (prepared.sources[6, 4:] == source_code("cam")).all()
    np.testing.assert_array_equal(prepared.sources > 0, prepared.annotation > 0)


def test_image_labels_follow_the_grid_that_is_trained_on():
    case = replace(make_case(REGION), image_labels=(ImageLabel(2, True, 0, 4, 9),))
    normalisation = fit_normalisation([case.image], [case.annotation])
    same, coarser, unknown = (
        prepare_case(one, normalisation, spacing, 3).presence
        for one, spacing in (
            (case, case.spacing),
            (case, (2.0, 1.0, 1.0)),
            (replace(case, outside_absent=False), case.spacing),
        )
    )
    assert same.shape == (18, 18, 18)  # of the whole volume: the region's place in it is known
    assert same.slices(2, 0).tolist() == [0] * 4 + [1] * 6 + [0] * 8
    assert coarser.slices(2, 0).tolist() == [0] * 2 + [1] * 3 + [0] * 4
    assert unknown.slices(2, 0).tolist() == [-1] * 4 + [1] * 6 + [-1] * 8
    assert prepare_case(make_case(), normalisation, case.spacing, 3).presence is None


def test_image_labels_of_slices_or_classes_that_are_not_there_are_refused():
    case = make_case()
    normalisation = fit_normalisation([case.image], [case.annotation])
    for wrong in (ImageLabel(2, True, 0, 4, 18), ImageLabel(4, True)):
        with pytest.raises(InputError):
            prepare_case(replace(case, image_labels=(wrong,)), normalisation, case.spacing, 3)
    with pytest.raises(InputError, match="one source for each voxel"):
        weigh_case(replace(case, sources=np.zeros((2, 2, 2), np.uint8)), 1.0)


def test_a_cropped_case_knows_where_it_lies():
    case = make_case(REGION)
    prepared = prepare_case(case, fit_normalisation([case.image], [case.annotation]), case.spacing)
    box = (slice(1, 6), slice(0, 4), slice(3, 9))
    cropped = crop_case(prepared, box)
    assert cropped.start == (3, 5, 3)
    assert cropped.whole == (18, 18, 18)
    np.testing.assert_array_equal(cropped.image, prepared.image[(slice(None), *box)])
    np.testing.assert_array_equal(cropped.annotation, prepared.annotation[box])
    np.testing.assert_array_equal(cropped.weights, prepared.weights[box])
    assert cropped.sources is None


def test_labels_are_counted_in_parts_as_at_once(monkeypatch):
    case = make_case()
    whole = balance_classes([case, case], 3)
    monkeypatch.setattr("napari_sparseseg.cases._COUNTED_AT_ONCE", 1000)
    assert torch.equal(balance_classes([case, case], 3), whole)
    counts = np.bincount(case.annotation.reshape(-1), minlength=4)[1:]
    np.testing.assert_allclose(np.ptp(whole.numpy()[1:] ** 2 * counts), 0, atol=0.01)
    assert whole[0] == 0
