import io
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy import ndimage

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.errors import InputError
from napari_sparseseg.evaluation import evaluate_prediction

ONE_CLASS = ClassTable.from_values([1])
UNIT = (1.0, 1.0, 1.0)


def cube(start=(5, 5, 5), side=6, shape=(20, 20, 20), value=1):
    mask = np.zeros(shape, np.int32)
    mask[tuple(slice(s, s + side) for s in start)] = value
    return mask


def random_mask(seed, shape=(7, 8, 6)):
    return (np.random.default_rng(seed).random(shape) < 0.3).astype(np.int32)


def border_points(mask, spacing):
    """Points in mm of the voxels that have a neighbour outside the mask (or lie at the array's end)."""
    inner = ndimage.binary_erosion(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    return np.argwhere(mask & ~inner) * np.asarray(spacing)


def brute_force_hd95(first, second, spacing):
    a, b = border_points(first == 1, spacing), border_points(second == 1, spacing)
    distances = np.linalg.norm(a[:, None] - b[None], axis=2)
    return max(np.percentile(distances.min(axis=1), 95), np.percentile(distances.min(axis=0), 95))


@settings(max_examples=25, deadline=None)
@given(
    seeds=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
    spacing=st.tuples(*[st.floats(0.3, 5.0)] * 3),
)
def test_scores_equal_brute_force_and_are_symmetric(seeds, spacing):
    first, second = (random_mask(seed) for seed in seeds)
    score = evaluate_prediction(first, second, spacing, ONE_CLASS).classes[0]
    swapped = evaluate_prediction(second, first, spacing, ONE_CLASS).classes[0]
    common = ((first == 1) & (second == 1)).sum()
    assert score.dice == pytest.approx(2 * common / (first.sum() + second.sum()))
    assert score.iou == pytest.approx(common / np.maximum(first, second).sum())
    assert score.hd95_mm == pytest.approx(brute_force_hd95(first, second, spacing), rel=1e-4)
    for name in ("dice", "iou", "hd95_mm", "surface_dice"):
        assert getattr(score, name) == pytest.approx(getattr(swapped, name), rel=1e-5)
    assert score.volume_error_ml == pytest.approx(-swapped.volume_error_ml)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_identical_masks_are_perfect(seed):
    mask = random_mask(seed)
    result = evaluate_prediction(mask, mask, (3.0, 1.0, 2.0), tolerance_mm=0)
    score = result.classes[0]
    assert (score.dice, score.iou, score.surface_dice, score.hd95_mm) == (1, 1, 1, 0)
    assert (score.volume_error_ml, score.volume_error_percent) == (0, 0)


@pytest.mark.parametrize("axis", range(3))
def test_shifted_cube_has_the_known_distance(axis):
    spacing = (3.0, 1.5, 0.5)
    start = [5, 5, 5]
    start[axis] += 2
    score = evaluate_prediction(cube(start), cube(), spacing, tolerance_mm=0.01).classes[0]
    # Over 5 % of either border lies on the face that moved away.
    assert score.hd95_mm == pytest.approx(2 * spacing[axis])
    assert score.dice == pytest.approx(4 / 6)
    # Exactly what moved away is outside the other: beyond the tolerance; all is within the shift.
    assert score.surface_dice < 0.9
    full = evaluate_prediction(cube(start), cube(), spacing, tolerance_mm=2 * spacing[axis])
    assert full.classes[0].surface_dice == pytest.approx(1)


def test_surface_dice_weighs_by_area():
    # A slab one voxel thicker on one side: of both surfaces only that face and the rim beside it differ.
    thin, thick = np.zeros((2, 12, 40, 40), np.int32)
    thin[3:6, 4:36, 4:36] = 1
    thick[3:8, 4:36, 4:36] = 1
    spacing = (2.0, 1.0, 1.0)
    score = evaluate_prediction(thick, thin, spacing, tolerance_mm=1.0).classes[0]
    # mm²: faces of 32 × 32, sides of 4 × 32 × height 6 or 10 (their edges chamfered, hence the slack).
    face, lower, higher = 32 * 32, 4 * 32 * 6, 4 * 32 * 10
    # Beyond 1 mm: the thick slab's upper face, the thin one's but for its rim, and the side above it.
    differing = face + 29**2 + (higher - lower) * 3 / 4
    everything = 4 * face + lower + higher
    assert score.surface_dice == pytest.approx(1 - differing / everything, abs=0.02)


def test_position_in_the_array_does_not_matter():
    scores = []
    for start in ((0, 0, 0), (5, 6, 7), (13, 13, 13)):
        truth, prediction = cube(start), cube(start)
        prediction[tuple(slice(s + 2, s + 4) for s in start)] = 0
        scores.append(evaluate_prediction(prediction, truth, (1.0, 2.0, 1.0), tolerance_mm=0.5).classes[0])
    assert scores[0] == scores[1] == scores[2]


def test_volume_errors():
    score = evaluate_prediction(cube(side=8), cube(side=4), (2.0, 5.0, 1.0)).classes[0]
    assert score.volume_error_ml == pytest.approx((512 - 64) * 10 / 1000)
    assert score.volume_error_percent == pytest.approx(700)
    assert (score.voxels_predicted, score.voxels_true) == (512, 64)


def test_empty_classes_follow_the_stated_rule():
    table = ClassTable.from_values([1, 2, 3, 4])
    truth, prediction = cube(), cube()
    truth[0, 0, 0] = 2
    prediction[0, 0, 1] = 3
    result = evaluate_prediction(prediction, truth, UNIT, table)
    both, missed, spurious, neither = result.classes
    assert [s.presence for s in result.classes] == ["both", "missed", "spurious", "neither"]
    for score in (missed, spurious):
        assert (score.dice, score.iou, score.surface_dice) == (0, 0, 0)
        assert math.isnan(score.hd95_mm)
    assert all(math.isnan(v) for v in (neither.dice, neither.iou, neither.surface_dice, neither.hd95_mm))
    assert missed.volume_error_percent == -100
    assert math.isnan(spurious.volume_error_percent)
    assert result.mean_dice == pytest.approx(both.dice / 3)
    assert result.mean_hd95_mm == both.hd95_mm == 0


def test_only_where_limits_overlap_but_not_distances():
    truth, prediction = cube(), cube((5, 5, 7))
    where = np.zeros(truth.shape, bool)
    where[..., 7:11] = True
    whole = evaluate_prediction(prediction, truth, UNIT)
    part = evaluate_prediction(prediction, truth, UNIT, only_where=where)
    assert part.mean_dice == part.mean_iou == 1
    assert part.mean_hd95_mm == whole.mean_hd95_mm == 2
    assert part.classes[0].voxels_true == whole.classes[0].voxels_true
    assert part.restricted
    assert part.voxels_compared == where.sum()
    assert not whole.restricted
    nowhere = evaluate_prediction(prediction, truth, UNIT, only_where=np.zeros_like(where))
    assert math.isnan(nowhere.mean_dice)


def test_renaming_classes_renames_the_scores():
    truth, prediction = cube(), cube((6, 5, 5))
    truth[15:, 15:, 15:], prediction[16:, 15:, 15:] = 2, 2
    straight = evaluate_prediction(prediction, truth, UNIT)
    swap = np.array([0, 2, 1])
    swapped = evaluate_prediction(swap[prediction], swap[truth], UNIT)
    assert [s.dice for s in straight.classes] == [s.dice for s in swapped.classes][::-1]
    assert [s.hd95_mm for s in straight.classes] == [s.hd95_mm for s in swapped.classes][::-1]


def test_default_tolerance_is_2_mm_and_for_microscopy_a_voxel():
    assert evaluate_prediction(cube(), cube(), (5.0, 1.0, 1.0)).tolerance_mm == 2
    assert evaluate_prediction(cube(), cube(), (0.003, 0.004, 0.012)).tolerance_mm == pytest.approx(0.013)


def test_json_and_table_hold_the_scores():
    table = ClassTable.from_values([1, 2], {1: "liver"})
    result = evaluate_prediction(cube(), cube(), UNIT, table, only_where=cube() == 1)
    report = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert report["mean_dice"] == 1
    assert report["classes"][0]["name"] == "liver"
    assert report["classes"][1]["dice"] is None
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(result.to_table())
    text = console.export_text()
    assert "liver" in text
    assert "class 2 (neither)" in text
    assert "216 voxels" in text


@pytest.mark.parametrize(
    ("prediction", "options", "words"),
    [
        (cube(shape=(20, 20, 21)), {}, "voxels"),
        (cube(value=7), {"table": ONE_CLASS}, "7"),
        (cube(), {"only_where": np.ones((2, 2, 2), bool)}, "compare"),
        (cube(), {"tolerance_mm": -1}, "tolerance"),
        (cube(), {"tolerance_mm": math.nan}, "tolerance"),
    ],
)
def test_mistakes_are_told(prediction, options, words):
    with pytest.raises(InputError, match=words):
        evaluate_prediction(prediction, cube(), UNIT, **options)


def test_nothing_to_compare_is_told():
    empty = np.zeros((4, 4, 4), int)
    with pytest.raises(InputError, match="nothing to compare"):
        evaluate_prediction(empty, empty, UNIT)
    with pytest.raises(InputError, match="three axes"):
        evaluate_prediction(empty[0], empty[0], UNIT)


def test_import_is_light():
    code = "import sys, napari_sparseseg.evaluation; print({'torch', 'monai'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
