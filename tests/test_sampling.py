from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.image_labels import ImageLabel, Presence
from napari_sparseseg.sampling import (
    LabelledVoxels,
    PatchDraw,
    PatchSampler,
    TrainingArrays,
    extract_patch,
    find_room,
    judge_presence,
    position_channels,
    reach_of_patch,
)


def make_arrays(shape=(12, 14, 16), spacing=(1.0, 1.0, 1.0), labels=None, channels=1, seed=0):
    random = torch.Generator().manual_seed(seed)
    if labels is None:
        labels = torch.randint(0, 4, shape, generator=random).to(torch.uint8)
    return TrainingArrays(
        image=torch.randn(channels, *shape, generator=random),
        labels=labels,
        weights=torch.where(labels > 0, 0.5, 0.0).half(),
        preview=torch.where(labels == 0, 2, 0).to(torch.uint8),
        spacing=spacing,
    )


def plain_draw(centre, transform=None, **changes):
    values = {"gain": 1.0, "shift": 0.0, "gamma": 1.0, "noise": 0.0, "noise_seed": 0, **changes}
    return PatchDraw(case=0, centre=centre, transform=transform, **values)


def make_sampler(cases, patch=(6, 6, 6), seed=0, flips=False):
    return PatchSampler(cases, patch, np.random.default_rng(seed), flips=flips)


def cut_by_hand(arrays, centre, size):
    """Return image and labels of a patch, voxel by voxel: edge continued, labels 0 outside."""
    shape = arrays.labels.shape
    image = torch.zeros(arrays.image.shape[0], *size)
    labels = torch.zeros(size, dtype=torch.uint8)
    for index in np.ndindex(*size):
        place = [c - s // 2 + i for c, s, i in zip(centre, size, index, strict=True)]
        inside = [min(max(p, 0), n - 1) for p, n in zip(place, shape, strict=True)]
        image[(slice(None), *index)] = arrays.image[(slice(None), *inside)]
        if place == inside:
            labels[index] = arrays.labels[tuple(inside)]
    return image, labels


@pytest.mark.parametrize("transform", [None, np.eye(3)], ids=["cut", "identity transform"])
@pytest.mark.parametrize(
    ("centre", "size"),
    [((6, 7, 8), (4, 5, 6)), ((0, 0, 0), (6, 4, 4)), ((11, 13, 15), (5, 4, 7)), ((6, 7, 8), (16, 18, 20))],
    ids=["inside", "low corner", "high corner", "larger than the volume"],
)
def test_a_patch_is_what_cutting_by_hand_gives(centre, size, transform):
    arrays = make_arrays(channels=2)
    patch = extract_patch(arrays, plain_draw(centre, transform), size)
    image, labels = cut_by_hand(arrays, centre, size)
    assert torch.allclose(patch.image, image, atol=1e-4)
    assert torch.equal(patch.labels, labels)
    assert torch.equal(patch.weights > 0, labels > 0)
    assert patch.labels.dtype == torch.uint8
    assert patch.weights.dtype == torch.float16


def test_outside_the_volume_nothing_is_labelled_or_taught():
    arrays = make_arrays((2, 2, 2), labels=torch.ones(2, 2, 2, dtype=torch.uint8))
    patch = extract_patch(arrays, plain_draw((1, 1, 1)), (6, 6, 6))
    assert int((patch.labels > 0).sum()) == 8
    assert int((patch.weights > 0).sum()) == 8
    assert int((patch.preview > 0).sum()) == 0


def test_the_same_draw_gives_the_same_patch_twice():
    arrays = make_arrays()
    draws = [make_sampler([arrays], seed=seed).draw() for seed in range(60)]
    assert any(draw.noise for draw in draws)
    assert any(draw.gamma != 1 for draw in draws)
    assert any(draw.transform is not None for draw in draws)
    for draw in draws:
        first, second = (extract_patch(arrays, draw, (6, 6, 6)) for _ in range(2))
        assert torch.equal(first.image, second.image)
        assert torch.equal(first.labels, second.labels)
        assert torch.isfinite(first.image).all()


def test_the_same_seed_draws_the_same():
    arrays = make_arrays()
    first, second = make_sampler([arrays], seed=4), make_sampler([arrays], seed=4)
    for _ in range(20):
        one, two = first.draw(), second.draw()
        assert (one.centre, one.gain, one.noise_seed) == (two.centre, two.gain, two.noise_seed)


def test_intensities_change_as_drawn():
    arrays = make_arrays()
    plain = extract_patch(arrays, plain_draw((6, 7, 8)), (4, 4, 4)).image
    changed = extract_patch(arrays, plain_draw((6, 7, 8), gain=2.0, shift=1.0, gamma=0.5), (4, 4, 4)).image
    moved = plain * 2 + 1
    assert torch.allclose(changed, moved.sign() * moved.abs().sqrt(), atol=1e-6)


def test_a_flip_mirrors_image_and_labels_alike():
    arrays = make_arrays((8, 8, 9))
    draw = plain_draw((4, 4, 4), np.diag([1.0, 1.0, -1.0]))
    patch = extract_patch(arrays, draw, (4, 4, 5))
    image, labels = cut_by_hand(arrays, (4, 4, 4), (4, 4, 5))
    assert torch.allclose(patch.image, image.flip(-1), atol=1e-4)
    assert torch.equal(patch.labels, labels.flip(-1))


def test_every_patch_holds_a_labelled_voxel():
    labels = torch.zeros(30, 30, 30, dtype=torch.uint8)
    labels[5, 5, 5], labels[25, 14, 3] = 1, 2
    arrays = make_arrays((30, 30, 30), labels=labels)
    sampler = make_sampler([arrays], (8, 8, 8))
    for _ in range(200):
        draw = sampler.draw()
        centre = np.array(draw.centre)
        distance = min(np.abs(centre - (5, 5, 5)).max(), np.abs(centre - (25, 14, 3)).max())
        assert distance <= 2
        assert (extract_patch(arrays, plain_draw(draw.centre), (8, 8, 8)).labels > 0).any()


def test_rare_classes_are_drawn_often_and_common_ones_too():
    labels = torch.zeros(40, 40, 40, dtype=torch.uint8)
    labels[20] = 1
    labels[2, 2, 2] = 2
    sampler = make_sampler([make_arrays((40, 40, 40), labels=labels)], (4, 4, 4))
    rare = sum(sampler.draw().centre[0] < 10 for _ in range(1000))
    assert 200 < rare < 300  # half of the draws are balanced, half of those are of the rare class


def test_cases_are_drawn_evenly_and_unlabelled_ones_never():
    few, many = torch.zeros(3, 12, 14, 16, dtype=torch.uint8)[:2]
    few[0, 0, 0], many[:] = 1, 1
    cases = [make_arrays(labels=few), make_arrays(labels=many), make_arrays(labels=torch.zeros_like(many))]
    sampler = make_sampler(cases)
    drawn = Counter(sampler.draw().case for _ in range(1000))
    assert set(drawn) == {0, 1}
    assert 420 < drawn[0] < 580


def test_a_patch_stays_inside_a_larger_volume():
    arrays = make_arrays((20, 6, 20))
    sampler = make_sampler([arrays], (8, 8, 8))
    for _ in range(100):
        centre = sampler.draw().centre
        assert 4 <= centre[0] <= 16
        assert 4 <= centre[2] <= 16
        assert centre[1] == 3


@pytest.mark.parametrize("flips", [False, True])
def test_flips_are_left_to_right_and_only_where_allowed(flips):
    sampler = make_sampler([make_arrays()], flips=flips)
    drawn = [sampler.draw().transform for _ in range(300)]
    mirrored = [matrix for matrix in drawn if matrix is not None and np.linalg.det(matrix) < 0]
    assert all(matrix[2, 2] < 0 < matrix[0, 0] and matrix[1, 1] > 0 for matrix in mirrored)
    assert (len(mirrored) > 100) == flips
    assert flips or not mirrored


@pytest.mark.parametrize(
    ("spacing", "thick"), [((5.0, 1.0, 1.0), 0), ((1.0, 5.0, 1.0), 1), ((1.0, 1.0, 5.0), 2)]
)
def test_thick_slices_are_rotated_in_their_plane_only(spacing, thick):
    sampler = make_sampler([make_arrays(spacing=spacing)])
    matrices = [m for m in (sampler.draw().transform for _ in range(300)) if m is not None]
    assert len(matrices) > 30
    for matrix in matrices:
        others = np.delete(matrix[thick], thick), np.delete(matrix[:, thick], thick)
        assert not np.any(others)
    assert any(np.abs(matrix - np.diag(np.diag(matrix))).max() > 0.05 for matrix in matrices)


def test_rotations_keep_lengths_in_mm_up_to_their_scale():
    spacing = np.array([1.5, 1.0, 0.8])
    sampler = make_sampler([make_arrays(spacing=tuple(spacing))])
    axes = set()
    for matrix in (sampler.draw().transform for _ in range(300)):
        if matrix is not None:
            in_mm = np.diag(spacing) @ matrix @ np.diag(1 / spacing)
            scale = np.cbrt(np.linalg.det(in_mm))
            assert in_mm @ in_mm.T / scale**2 == pytest.approx(np.eye(3), abs=1e-9)
            assert 0.85 <= scale <= 1.2
            axes.add(int(np.argmax(np.diag(in_mm))))
    assert axes == {0, 1, 2}


@pytest.mark.parametrize("transform", [None, np.diag([1.0, 1.0, -1.0])], ids=["cut", "flip"])
def test_position_channels_tell_where_a_voxel_lies(transform):
    shape = (12, 14, 16)
    true = [torch.linspace(-1, 1, n) for n in shape]
    arrays = make_arrays(shape)
    patch = extract_patch(arrays, plain_draw((6, 7, 8), transform), (4, 4, 5), position=True)
    assert patch.image.shape == (4, 4, 4, 5)
    z, y, x = true[0][4:8], true[1][5:9], true[2][6:11]
    if transform is not None:
        x = x.flip(0)
    for channel, expected in enumerate(torch.meshgrid(z, y, x, indexing="ij")):
        assert torch.allclose(patch.image[1 + channel], expected, atol=1e-5)


def test_position_of_a_whole_volume_runs_from_minus_one_to_one():
    channels = position_channels((3, 1, 5), (0, 0, 0), (3, 1, 5), torch.device("cpu"))
    assert channels[0, :, 0, 0].tolist() == [-1, 0, 1]
    assert channels[2, 0, 0].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert torch.isfinite(channels).all()


def test_a_focus_takes_every_second_draw_for_a_while():
    labels = torch.zeros((64, 8, 8), dtype=torch.uint8)
    labels[4] = 1
    labels[60] = 2
    sampler = make_sampler([make_arrays(labels.shape, labels=labels)], patch=(4, 8, 8))
    fresh = np.flatnonzero(np.arange(labels.numel()) // 64 == 30)
    sampler.focus(0, fresh, 20)
    near = [abs(sampler.draw().centre[0] - 30) <= 2 for _ in range(60)]
    assert sum(near[:20]) == 10
    assert not any(near[20:])


def test_a_share_of_draws_may_lie_anywhere():
    labels = torch.zeros((64, 8, 8), dtype=torch.uint8)
    labels[4] = 1
    arrays = [make_arrays(labels.shape, labels=labels)]
    everywhere = PatchSampler(arrays, (4, 8, 8), np.random.default_rng(0), flips=False, anywhere=0.5)
    far = [everywhere.draw().centre[0] > 8 for _ in range(200)]
    assert 0.3 < np.mean(far) < 0.6
    assert not any(make_sampler(arrays, (4, 8, 8)).draw().centre[0] > 8 for _ in range(50))


def say_all(mask):
    """Return a presence that knows of every slice of a mask whether it is there."""
    labels = []
    for axis in range(3):
        there = mask.any(tuple(other for other in range(3) if other != axis))
        labels += [ImageLabel(2, bool(shown), axis, i, i) for i, shown in enumerate(there.tolist())]
    return Presence(labels, mask.shape, 2)


def test_nothing_is_said_of_a_case_without_image_labels():
    assert judge_presence(make_arrays(), plain_draw((6, 7, 8)), (4, 4, 4)) is None


@given(seed=st.integers(0, 10**6), turned=st.booleans())
def test_what_is_said_of_a_patch_is_true(seed, turned):
    random = np.random.default_rng(seed)
    whole = np.zeros((20, 18, 22), np.uint8)
    low = random.integers(0, 12, 3)
    high = low + random.integers(2, 7, 3)
    whole[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 2
    start = (2, 1, 3)
    labels = torch.from_numpy(whole[2:19, 1:17, 3:21].copy())
    arrays = replace(
        make_arrays(labels.shape, labels=labels), start=start, whole=whole.shape, presence=say_all(whole == 2)
    )
    size = (7, 8, 5)
    sampler = PatchSampler([arrays], size, random, flips=True, anywhere=0.8)
    draws = [sampler.draw() for _ in range(30)] if labels.any() else []
    draws = [draw for draw in draws if (draw.transform is not None) == turned]
    for draw in draws:
        [said] = judge_presence(arrays, draw, size)
        there = bool((extract_patch(arrays, draw, size).labels > 0).any())
        assert said == -1 or bool(said) == there


@given(seed=st.integers(0, 10**6))
def test_the_room_of_a_class_is_where_it_is_not_ruled_out(seed):
    random = np.random.default_rng(seed)
    whole = np.zeros((20, 18, 22), np.uint8)
    low = random.integers(0, 12, 3)
    high = low + random.integers(2, 9, 3)
    whole[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 2
    presence = say_all(whole == 2)
    possible = torch.from_numpy(presence.possible(2)[2:19, 1:17, 3:21].astype(np.uint8))
    arrays = replace(
        make_arrays(possible.shape, labels=possible), start=(2, 1, 3), whole=whole.shape, presence=presence
    )
    size = (7, 8, 5)
    sampler = PatchSampler([arrays], size, random, flips=True, anywhere=0.8)
    for draw in [sampler.draw() for _ in range(20)] if possible.any() else []:
        labels = extract_patch(arrays, draw, size).labels.numpy() > 0
        differing = (find_room(arrays, draw, size, 2)[0] != labels).mean()
        assert differing == 0 if draw.transform is None else differing < 0.02  # rounded in float32 there


def test_a_class_of_which_nothing_is_said_has_all_of_the_volume_for_room():
    room = find_room(make_arrays((12, 14, 16)), plain_draw((0, 7, 8)), (6, 6, 6), 3)
    assert room.shape == (2, 6, 6, 6)
    assert not room[:, :3].any()
    assert room[:, 3:].all()


def test_something_is_said_of_turned_patches_too():
    whole = np.zeros((20, 20, 20), np.uint8)
    whole[9:12, 9:12, 9:12] = 2
    arrays = replace(make_arrays((20, 20, 20), labels=torch.from_numpy(whole)), presence=say_all(whole == 2))
    angle = 0.2
    matrix = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    answers = [
        judge_presence(arrays, plain_draw(centre, matrix), (10, 10, 10)).tolist()
        for centre in ((10, 10, 10), (3, 3, 3), (5, 5, 5))
    ]
    assert answers == [[1], [0], [-1]]


def test_labelled_voxels_on_disk_are_drawn_as_those_in_memory(tmp_path):
    arrays = make_arrays()
    known = LabelledVoxels.of(arrays.labels.numpy())
    assert known.counts == tuple(int((arrays.labels == value).sum()) for value in (1, 2, 3))
    np.save(tmp_path / "voxels.npy", known.voxels)
    on_disk = replace(arrays, labelled=LabelledVoxels(known.counts, tmp_path / "voxels.npy"))
    samplers = [make_sampler([case], seed=3) for case in (arrays, replace(arrays, labelled=known), on_disk)]
    for _ in range(30):
        first, *others = (sampler.draw() for sampler in samplers)
        assert all((one.centre, one.noise_seed) == (first.centre, first.noise_seed) for one in others)
    assert LabelledVoxels.of(np.zeros((2, 2, 2), np.uint8)).counts == ()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 1.0, 1.2), (2.0, 1.0, 1.0)])
def test_no_patch_reaches_farther_than_is_said(spacing):
    labels = torch.zeros(60, 60, 60, dtype=torch.uint8)
    labels[30, 30, 30] = 1
    size = (6, 12, 9)
    reach = np.array(reach_of_patch(size, spacing))
    sampler = make_sampler([make_arrays(labels.shape, spacing, labels)], size, flips=True)
    ends = [(-(length // 2), (length - 1) // 2) for length in size]
    corners = np.array(np.meshgrid(*ends)).reshape(3, 8).T
    farthest = np.zeros(3)
    for _ in range(1500):
        draw = sampler.draw()
        matrix = np.eye(3) if draw.transform is None else draw.transform
        away = np.abs(np.array(draw.centre) - 30 + corners @ matrix.T).max(0)
        farthest = np.maximum(farthest, away)
    assert (farthest + 1 <= reach).all()  # and one for the neighbours that are interpolated
    assert (farthest > 0.55 * reach).all()
