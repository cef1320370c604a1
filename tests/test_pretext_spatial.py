import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms_ssl import make_sources, run_pretraining, short_pretraining
from scipy import ndimage

from napari_sparseseg import tiling as tiling_module
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import PretextPictured, PretextScored
from napari_sparseseg.networks import plan_network
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.permutations import near_permutations
from napari_sparseseg.pretext import TaskContext
from napari_sparseseg.pretext_spatial import SPATIAL_TASKS, Jigsaw, RelativePosition, Rotation
from napari_sparseseg.pretraining_settings import PretextConfig
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.tiling import draw_inside, plan_tiling
from napari_sparseseg.turns import cube_turns, plane_turns
from napari_sparseseg.volume_pool import ReadVolume, VolumePool, VolumeSource

NETWORK = NetworkConfig()


def make_context(
    extent=(40, 40, 40), crop=(16, 16, 16), spacing=(1.0, 1.0, 1.0), channels=1, shape=None, **config
):
    plan = plan_network(extent, spacing, NETWORK, 64**3)
    return TaskContext(
        PretextConfig(**config),
        NETWORK,
        plan,
        channels,
        spacing,
        crop,
        extent,
        shape or extent,
        8,
        4,
        0,
        False,
    )


def make_pool(images, extent=(40, 40, 40), spacing=(1.0, 1.0, 1.0)):
    sources = [
        VolumeSource(str(number), lambda image=image: ReadVolume(image, spacing))
        for number, image in enumerate(images)
    ]
    sizes = [image.size for image in images]
    pool = VolumePool(sources, sizes, Normalisation((None,) * len(images[0])), spacing, extent, 100, 0)
    pool.turn(0)
    return pool


def make_noise(shape=(44, 44, 44), count=4, smoothness=1.5, ramp=0.0):
    """Return volumes without anything to recognise: a piece can be told only by what continues in others."""
    random = np.random.default_rng(0)
    noise = [ndimage.gaussian_filter(random.normal(size=shape), smoothness) for _ in range(count)]
    trend = ramp * np.linspace(-1, 1, shape[0])[:, None, None]
    return [(values / values.std() + trend).astype(np.float32)[None] for values in noise]


@pytest.fixture
def keep_brightness(monkeypatch):
    monkeypatch.setattr(tiling_module, "standardise", lambda tiles, _: tiles)


@pytest.mark.usefixtures("few_checks")
@pytest.mark.parametrize(
    ("task", "shape", "steps", "margin"),
    [("relative_position", 36, 16, 0.25), ("jigsaw", 24, 8, 0.5), ("rotation", 24, 40, 0.3)],
)
def test_tasks_are_learnt(task, shape, steps, margin):
    batch_size = 8 if task == "rotation" else 4  # the others draw several problems per piece
    config = short_pretraining(task, steps=steps, batch_size=batch_size)
    pretext = PretextConfig(permutations=8, turns="plane")
    encoder, events = run_pretraining(make_sources(6, shape=(shape,) * 3), config, pretext)
    scores = [event for event in events if isinstance(event, PretextScored)]
    assert scores[-1].figure == "accuracy"
    assert not scores[-1].within_volume
    assert scores[-1].value > scores[-1].trivial + margin
    assert scores[0].value < scores[0].trivial + margin
    pictured = next(event for event in events if isinstance(event, PretextPictured))
    assert pictured.names == ("input", "target", "prediction")
    assert pictured.images.ndim == 4
    assert len(encoder.weights) > 0


@pytest.mark.usefixtures("few_checks")
def test_nothing_is_learnt_where_there_is_nothing_to_recognise():
    images = make_noise((24, 24, 24), 10)
    sources = [
        VolumeSource(str(number), lambda image=image: ReadVolume(image, (1.0, 1.0, 1.0)))
        for number, image in enumerate(images)
    ]
    config = short_pretraining("jigsaw", steps=8, batch_size=4)  # as long as it takes to learn phantoms
    _, events = run_pretraining(sources, config, PretextConfig(permutations=8))
    last = [event for event in events if isinstance(event, PretextScored)][-1]
    assert last.value < last.trivial + 0.2


@pytest.mark.parametrize("task", SPATIAL_TASKS)
def test_what_is_drawn_depends_on_the_generator_alone_and_follows_the_batch_size(task):
    pool, problem = make_pool(make_noise()), SPATIAL_TASKS[task](make_context())
    first, again, other = (problem.draw(pool, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    problem.context = replace(problem.context, batch_size=3)
    assert {len(tensor) for tensor in problem.draw(pool, np.random.default_rng(0)).values()} == {3}


@pytest.mark.parametrize("task", SPATIAL_TASKS)
def test_smallest_piece_is_what_the_network_gets(task):
    problem = SPATIAL_TASKS[task](make_context())
    shapes = [
        tuple(tensor.shape[-3:])
        for tensor in problem.draw(make_pool(make_noise()), np.random.default_rng(0)).values()
        if tensor.is_floating_point()
    ]
    assert shapes == [problem.smallest]


@pytest.mark.parametrize("task", SPATIAL_TASKS)
def test_a_right_answer_puts_everything_where_the_target_has_it(task, monkeypatch):
    problem = SPATIAL_TASKS[task](make_context())
    batch = problem.draw(make_pool(make_noise()), np.random.default_rng(0))
    answers = batch[{"relative_position": "neighbours", "jigsaw": "layouts", "rotation": "turns"}[task]]
    right = torch.nn.functional.one_hot(answers, problem.head[-1].out_features).float()
    monkeypatch.setattr(problem, "_score", lambda _: right)
    shown = {picture.name: picture.image for picture in problem.picture(batch)}
    np.testing.assert_array_equal(shown["prediction"], shown["target"])
    assert (shown["input"] != shown["target"]).any()
    outcome = problem.learn(batch)
    assert outcome.figure == 1
    assert outcome.trivial == pytest.approx(1 / right.shape[-1])
    monkeypatch.setattr(problem, "_score", lambda _: right.roll(1, -1))
    shown = {picture.name: picture.image for picture in problem.picture(batch)}
    assert (shown["prediction"] != shown["target"]).any()
    assert problem.learn(batch).figure == 0


def match_borders(task, pool, batches=6):
    """Return how often the best continuing border tells which of the 6 nearest neighbours a tile is."""
    middle, right = task._middle, []
    for number in range(batches):
        batch = task.draw(pool, np.random.default_rng(number))
        for tiles, answers in zip(batch["tiles"][:, :, 0], batch["neighbours"], strict=True):
            for tile, answer in zip(tiles[1:], answers, strict=True):
                offset = np.subtract(task._around[int(answer)], middle)
                if np.abs(offset).sum() > 1:
                    continue
                steps = {}
                for axis, sign in itertools.product(range(3), (-1, 1)):
                    near, far = (-1, 0) if sign > 0 else (0, -1)
                    difference = tiles[0].select(axis, near) - tile.select(axis, far)
                    steps[axis, sign] = float(difference.square().mean())
                axis, sign = min(steps, key=steps.get)
                right.append(offset[axis] == sign)
    return np.mean(right)


def test_continuing_borders_tell_neighbours_without_a_gap_and_not_with_it():
    extent, pool = (48, 48, 48), make_pool(make_noise((52, 52, 52)), (48, 48, 48))
    without = RelativePosition(make_context(extent, gap=0, jitter=0))
    usual = RelativePosition(make_context(extent))  # a gap of one voxel: the tiles have but nine
    gapped = RelativePosition(make_context(extent, gap=0.5, jitter=0.125))
    assert match_borders(without, pool) > 0.9
    assert match_borders(usual, pool) < 0.65
    assert match_borders(gapped, pool) < 0.35  # by chance 1/6 of about 70 pairs


@pytest.mark.parametrize(("gap", "jitter", "alike"), [(0, 0, True), (0.5, 0.125, False)])
def test_facing_borders_of_a_jigsaw_are_alike_only_without_a_gap(gap, jitter, alike):
    task = Jigsaw(make_context(gap=gap, jitter=jitter))
    tiles = torch.cat(
        [
            task.draw(make_pool(make_noise()), np.random.default_rng(number))["tiles"][:, :, 0]
            for number in range(4)
        ]
    )
    first, second = tiles[:, 0, ..., -1].flatten(), tiles[:, 1, ..., 0].flatten()
    correlation = float(np.corrcoef(first, second)[0, 1])
    assert correlation > 0.7 if alike else abs(correlation) < 0.3


def brightness_of_neighbours(ramp):
    """Return the place along Z and the brightness of second tiles, as differences to the first ones."""
    task = RelativePosition(make_context())
    batch = task.draw(make_pool(make_noise(smoothness=0, ramp=ramp)), np.random.default_rng(0))
    offsets = np.array(task._around)[batch["neighbours"].flatten()][:, 0] - 1
    means = batch["tiles"].mean((2, 3, 4, 5))
    return offsets, (means[:, 1:] - means[:, :1]).flatten().numpy(), batch["tiles"]


def test_a_trend_of_brightness_does_not_tell_neighbours(keep_brightness):
    offsets, brighter, _ = brightness_of_neighbours(ramp=3.0)
    assert (np.sign(brighter[offsets != 0]) == offsets[offsets != 0]).mean() > 0.95  # it would


def test_all_tiles_have_one_brightness_and_contrast():
    _, brighter, tiles = brightness_of_neighbours(ramp=3.0)
    assert np.abs(brighter).max() < 1e-5
    assert tiles.std((3, 4, 5), correction=0).numpy() == pytest.approx(1.0, abs=1e-4)


def test_flat_tiles_stay_finite():
    assert torch.equal(
        tiling_module.standardise(torch.full((2, 1, 3, 3, 3), 7.0)), torch.zeros(2, 1, 3, 3, 3)
    )


@pytest.mark.parametrize("task", [RelativePosition, Jigsaw])
def test_tiles_come_from_where_the_answer_says(task, keep_brightness):
    coordinates = np.indices((44, 44, 44)).astype(np.float32)
    problem = task(make_context(channels=3))
    batch = problem.draw(make_pool([coordinates, coordinates]), np.random.default_rng(0))
    found = batch["tiles"].mean((3, 4, 5)).numpy()
    if task is Jigsaw:
        cells = np.broadcast_to(problem.tiling.cells, found.shape)
    else:
        others = np.array(problem._around)[batch["neighbours"]]
        cells = np.concatenate([np.full_like(others[:, :1], 1), others], axis=1)
    np.testing.assert_array_equal(
        np.sign((found[:, 1:] - found[:, :1]).round(1)) * (cells[:, 1:] != cells[:, :1]),
        np.sign(cells[:, 1:] - cells[:, :1]),
    )


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(8, 70)] * 3), st.integers(0, 7), st.sampled_from([2, 3]),
    st.sampled_from([0.0, 0.125, 0.5]), st.sampled_from([0.0, 0.0625, 0.5]), st.integers(0, 99),
)  # fmt: skip
def test_tiles_fit_and_keep_their_distance(extent, continued, count, gap, jitter, seed):
    crop, least = tuple(min(n, 32) for n in extent), (9, 9, 5)
    shape = tuple(n - continued for n in extent)
    context = make_context(extent, crop, shape=shape)
    tiling = plan_tiling((count,) * 3, context, least, gap, jitter)
    assert all(span <= have for span, have in zip(tiling.span, extent, strict=True))
    for axis, tiles in enumerate(tiling.counts):
        one = tiles == 1
        assert one or tiling.span[axis] <= shape[axis]
        assert tiling.side[axis] == crop[axis] if one else tiling.side[axis] >= least[axis]
        assert (tiling.gap[axis] > 0) == (gap > 0 and not one)
        assert (tiling.room[axis] > 0) == (jitter > 0 and not one)
    cut = []

    class Recorder:
        def cut(self, place, size):
            cut.append(np.array(place.start))
            assert all(first >= 0 for first in place.start)
            assert (np.array(place.start) + size <= tiling.span).all()
            return torch.zeros(1, *size)

    place = tiling_module.Place(0, (0, 0, 0))
    tiling.cut(Recorder(), place, tiling.cells, np.random.default_rng(seed))
    assert len(cut) == np.prod(tiling.counts)
    for (one, first), (other, second) in itertools.combinations(zip(tiling.cells, cut, strict=True), 2):
        apart = np.abs(first - second) - tiling.side
        assert any(a != b and d >= g for a, b, d, g in zip(one, other, apart, tiling.gap, strict=True))


def test_tiles_are_not_cut_where_a_volume_is_continued():
    small, large = make_noise((34, 38, 40), 3), make_noise((42, 40, 41), 1)
    pool, extent = make_pool([*small, *large]), (40, 40, 40)
    starts = []
    for number in range(30):
        place = draw_inside(pool, np.random.default_rng(number), (33, 33, 33), extent)
        if place.volume < 3:
            assert 3 <= place.start[0] <= 4
            assert 1 <= place.start[1] <= 6
        starts.append(place)
    assert {place.volume for place in starts} == {0, 1, 2, 3}
    assert {draw_inside(pool, np.random.default_rng(n), (36, 33, 33), extent).volume for n in range(9)} == {3}
    alone = make_pool(small)
    assert draw_inside(alone, np.random.default_rng(0), (36, 33, 33), extent).volume < 3  # nothing better


@pytest.mark.parametrize(("extent", "classes"), [((40, 40, 40), 26), ((16, 40, 40), 8), ((16, 40, 16), 2)])
def test_short_axes_take_no_part_in_relative_position(extent, classes):
    task = RelativePosition(make_context(extent))
    assert len(task._around) == task.head[-1].out_features == classes
    batch = task.draw(make_pool(make_noise((40, 44, 44)), extent), np.random.default_rng(0))
    assert batch["neighbours"].shape == (8, min(8, classes))
    assert task.learn(batch).trivial == pytest.approx(1 / classes)
    shapes = {picture.image.shape for picture in task.picture(batch)}
    assert len(shapes) == 1


def test_volumes_too_small_for_tiles_are_refused():
    with pytest.raises(InputError, match="three tiles of 9 × 9 × 9 voxels"):
        RelativePosition(make_context((16, 24, 24)))
    with pytest.raises(InputError, match="a jigsaw needs 4 tiles"):
        Jigsaw(make_context((16, 16, 40)))


@pytest.mark.parametrize(
    ("extent", "tiles", "counts"),
    [((40, 40, 40), 2, (2, 2, 2)), ((40, 40, 40), 3, (3, 3, 3)), ((16, 40, 40), 3, (1, 3, 3)),
     ((16, 40, 24), 3, (1, 3, 2)), ((16, 24, 24), 2, (1, 2, 2))],
)  # fmt: skip
def test_jigsaws_have_as_many_tiles_as_fit(extent, tiles, counts):
    task = Jigsaw(make_context(extent, tiles=tiles, permutations=40))
    assert task.tiling.counts == counts
    number = int(np.prod(counts))
    assert task.orders.shape == (24 if number == 4 else 40, number)
    outcome = task.learn(task.draw(make_pool(make_noise((40, 44, 44)), extent), np.random.default_rng(0)))
    assert outcome.trivial == pytest.approx(1 / len(task.orders))


def test_jigsaw_says_once_how_far_its_orders_are_apart():
    task, pool = Jigsaw(make_context(permutations=100)), make_pool(make_noise())
    (sentence,) = task.regroup(pool, np.random.default_rng(0))
    assert sentence == (
        f"The tiles are laid out in 100 orders that differ in {task.mean_hamming:.2f} of 8 places on average."
    )
    assert task.regroup(pool, np.random.default_rng(0)) == ()
    near = Jigsaw(make_context(permutations=100), choose=near_permutations)
    assert near.mean_hamming < task.mean_hamming - 2


@pytest.mark.parametrize(
    ("spacing", "extent", "turns", "axis", "size"),
    [
        ((1, 1, 1), (40, 40, 40), "auto", None, (16, 16, 16)),
        ((1, 1, 1), (40, 40, 40), "cube", None, (16, 16, 16)),
        ((1.05, 1, 1), (40, 40, 40), "auto", None, (16, 16, 16)),
        ((1, 1, 1), (40, 40, 40), "plane", 0, (16, 16, 16)),
        ((5, 1, 1), (8, 40, 40), "auto", 0, (7, 16, 16)),
        ((1, 5, 1), (40, 8, 40), "auto", 1, (16, 7, 16)),
        ((1, 1, 5), (40, 40, 8), "auto", 2, (16, 16, 7)),
        ((0.5, 1, 1), (40, 40, 40), "auto", 0, (16, 16, 16)),
    ],
)
def test_only_what_is_equal_along_the_axes_is_turned(spacing, extent, turns, axis, size):
    crop = tuple(min(16, n) for n in extent)
    task = Rotation(make_context(extent, crop, spacing, turns=turns))
    assert task.turns == (cube_turns() if axis is None else plane_turns(axis))
    assert task.smallest == size


def test_flat_pieces_are_turned_in_the_plane():
    assert len(Rotation(make_context((12, 64, 64), (12, 48, 48))).turns) == 4


@pytest.mark.parametrize(
    ("spacing", "turns", "match"),
    [
        ((5, 1, 1), "cube", "no cube of"),
        ((1, 2, 4), "auto", "no square of"),
        ((1, 2, 4), "plane", "no square"),
    ],
)
def test_voxels_that_would_tell_the_turn_are_refused(spacing, turns, match):
    with pytest.raises(InputError, match=match):
        Rotation(make_context(spacing=spacing, turns=turns))


@pytest.mark.parametrize("turns", ["cube", "plane"])
def test_borders_of_a_volume_are_not_turned(turns):
    image = make_noise((40, 40, 40), 1)[0]
    inner = image[:, 1:-1, 1:-1, 1:-1].copy()
    image[:] = 50.0
    image[:, 1:-1, 1:-1, 1:-1] = inner
    pool = make_pool([image])
    marked = pool.image(0).max()
    task = Rotation(make_context(crop=(40, 40, 40), turns=turns))
    for number in range(5):
        assert task.draw(pool, np.random.default_rng(number))["pieces"].max() < marked


def test_pieces_are_the_turned_ones():
    task, pool = Rotation(make_context()), make_pool(make_noise())
    batch = task.draw(pool, np.random.default_rng(0))
    whole = pool.image(0)
    upright = [
        task.turns[int(turn)].inverse().apply(piece)
        for piece, turn in zip(batch["pieces"], batch["turns"], strict=True)
    ]
    corners = [piece[0, :2, :2, :2] for piece in upright]
    windows = torch.stack([pool.image(volume)[0] for volume in pool.resident])
    windows = windows.unfold(1, 2, 1).unfold(2, 2, 1).unfold(3, 2, 1)
    assert whole.shape[0] == 1
    assert all((windows == corner).all(-1).all(-1).all(-1).any() for corner in corners)
