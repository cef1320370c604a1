import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.errors import InputError
from napari_sparseseg.image_labels import ImageLabel, Presence
from napari_sparseseg.seeds import grow_points, make_seeds
from napari_sparseseg.settings import SeedConfig

SHAPE = (4, 3, 5)
CONFIG = SeedConfig()


def row(*values):
    """Return a map of one row of voxels."""
    return np.array(values, np.float32)[None, None]


def said(*labels, shape=SHAPE, classes=3, **keywords):
    return Presence([ImageLabel(*label) for label in labels], shape, classes, **keywords)


@st.composite
def maps(draw):
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = draw(st.sets(st.integers(2, 4), min_size=1))
    made = {label: random.random(SHAPE, np.float32) ** 3 for label in labels}
    return {label: values / values.max() for label, values in made.items()}


@st.composite
def presences(draw):
    labels = []
    for label in range(2, 5):
        if draw(st.booleans()):
            labels.append((label, draw(st.booleans())))
        for axis, size in enumerate(SHAPE):
            if draw(st.booleans()):
                first = draw(st.integers(0, size - 1))
                labels.append((label, draw(st.booleans()), axis, first, draw(st.integers(first, size - 1))))
    return said(*labels, classes=4, outside_absent=draw(st.booleans()))


@given(
    found=maps(),
    presence=st.none() | presences(),
    low=st.floats(0, 0.4),
    high=st.floats(0.41, 1),
    certain=st.booleans(),
)
def test_seeds_keep_to_maps_and_labels(found, presence, low, high, certain):
    config = SeedConfig(object_threshold=high, background_threshold=low)
    seeds = make_seeds(found, presence, config, certain=certain)
    possible = {
        label: np.ones(SHAPE, bool) if presence is None else presence.possible(label) for label in range(2, 5)
    }
    largest = {label: values.max(where=possible[label], initial=0) or 1 for label, values in found.items()}
    found = {label: values / largest[label] for label, values in found.items()}
    sure = {label: (values >= high) & possible[label] for label, values in found.items()}
    somewhere = np.any(list(sure.values()), axis=0)
    assert set(np.unique(seeds)) <= {0, 1, *found}
    assert ((seeds > 1) == somewhere).all()
    for label in found:
        here = seeds == label
        assert sure[label][here].all()
        for other in found:
            assert (found[label][here] >= found[other][here])[possible[other][here]].all()
    background = seeds == 1
    for label, values in found.items():
        assert ((values < low) | ~possible[label] & certain)[background].all()
    for label in set(range(2, 5)) - set(found):
        if presence is not None and presence.is_mentioned(label):
            assert not possible[label][background].any()
    if presence is None:
        wanted = np.all([values < low for values in found.values()], axis=0)
        assert wanted[background].all()
        assert background.sum() >= min(wanted.sum(), 5 * somewhere.sum())


def test_background_does_not_drown_the_classes():
    values = np.zeros((20, 30, 40), np.float32)
    values[10, 10:20, 10:30] = 1
    seeds = make_seeds({2: values}, None, CONFIG)
    background = seeds == 1
    assert 1500 <= background.sum() <= 2200
    for axis in range(3):  # evenly
        parts = [part.sum() for part in np.array_split(background, 2, axis)]
        assert min(parts) > 0.8 * max(parts)


def test_between_the_thresholds_nothing_is_said():
    seeds = make_seeds({2: row(0, 0.09, 0.1, 0.59, 0.6, 1), 3: row(0, 0, 0, 0, 0, 0.5)}, None, CONFIG)
    assert seeds.tolist() == [[[1, 1, 0, 0, 2, 2]]]
    assert seeds.dtype == np.uint8


def plainly(found, presence, config, certain):
    """Make seeds as the definition reads, a whole array for each thought."""
    seeds, best, background = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.float32), np.ones(SHAPE, bool)
    told = {label: values for label, values in sorted(found.items()) if values.any()}
    for label, values in told.items():
        possible = np.ones(SHAPE, bool) if presence is None else presence.possible(label)
        largest = float(np.max(values, where=possible, initial=0)) or 1.0
        share = np.divide(values, largest, dtype=np.float32)
        chosen = (share >= config.object_threshold) & (share > best) & possible
        seeds[chosen], best[chosen] = label, share[chosen]
        background &= (share < config.background_threshold) | (~possible & certain)
    if presence is not None:
        for label in set(range(2, presence.classes + 1)) - set(told):
            if presence.is_mentioned(label):
                background &= ~presence.possible(label)
    seeds[background] = 1
    return seeds


@given(
    maps(), presences(), st.sampled_from([0.05, 0.1, 0.4]), st.sampled_from([0.5, 0.6, 0.9]), st.booleans()
)
def test_seeds_are_those_of_the_definition(found, presence, low, high, certain):
    config = SeedConfig(object_threshold=high, background_threshold=low)
    found = {label: np.rint(255 * values).astype(np.float32) / 255 for label, values in found.items()}
    seeds = make_seeds(found, presence, config, certain=certain)
    assert np.array_equal(seeds, plainly(found, presence, config, certain))


def test_the_larger_share_wins():
    seeds = make_seeds({2: row(1, 0.7, 0, 0.65), 3: row(0, 0.75, 1, 0.6)}, None, CONFIG)
    assert seeds.tolist() == [[[2, 3, 3, 2]]]
    shares = make_seeds({2: row(1, 0.7), 3: row(0.2, 0.5)}, None, CONFIG)  # 0.5 is all of its largest value
    assert shares.tolist() == [[[2, 3]]]


def test_what_is_largest_is_counted_where_the_class_can_be():
    told = said((2, True, 2, 0, 2), shape=(1, 1, 6))
    seeds = make_seeds({2: row(0.5, 0.2, 0, 0, 0, 1)}, told, CONFIG)
    assert seeds.tolist() == [[[2, 0, 1, 1, 1, 1]]]


def test_where_a_class_cannot_be_is_background_however_high_its_map():
    high = np.ones(SHAPE, np.float32)
    presence = said((2, True, 0, 1, 2))
    seeds = make_seeds({2: high}, presence, CONFIG)
    assert (seeds[1:3] == 2).all()
    assert (seeds[[0, 3]] == 1).all()
    assert (make_seeds({2: high}, presence, CONFIG, certain=False)[[0, 3]] == 0).all()


def test_an_unmapped_class_holds_background_back_only_where_it_may_be():
    low = np.zeros(SHAPE, np.float32)
    low[1, 1, 1] = 1
    for presence, background in (
        (said((2, True)), slice(None)),
        (said((2, True), (3, False)), slice(None)),
        (said((2, True), (3, True, 0, 2, 3)), slice(0, 2)),
        (said((2, True), (3, True)), slice(0, 0)),
    ):
        for found in ({2: low}, {2: low, 3: np.zeros(SHAPE, np.float32)}):  # a map of zeros tells nothing
            seeds = make_seeds(found, presence, CONFIG)
            expected = np.zeros(SHAPE)
            expected[background] = 1
            expected[1, 1, 1] = 2
            assert (seeds == expected).all()


@pytest.mark.parametrize(
    ("found", "presence", "config", "reason"),
    [
        ({}, None, CONFIG, "no class map"),
        ({2: np.zeros(SHAPE)}, None, CONFIG, "zero everywhere"),
        ({2: np.zeros(SHAPE), 3: np.zeros(SHAPE)}, said((2, True)), CONFIG, "zero everywhere"),
        ({2: np.ones(SHAPE)}, None, SeedConfig(object_threshold=0.1), "the larger one"),
        ({2: np.ones(SHAPE)}, None, SeedConfig(0.3, 0.5), "the larger one"),
        ({2: np.ones(SHAPE), 3: np.ones((4, 3, 4))}, None, CONFIG, "has the shape"),
        ({2: np.ones((1, 3, 5))}, said(), CONFIG, "has the shape"),
        ({2: np.ones((3, 5))}, None, CONFIG, "has the shape"),
        ({1: np.ones(SHAPE)}, None, CONFIG, "no class with the label 1"),
        ({4: np.ones(SHAPE)}, said(), CONFIG, "from 2 to 3"),
        ({2: np.full(SHAPE, np.nan)}, None, CONFIG, "between 0 and 1"),
        ({2: np.full(SHAPE, 255)}, None, CONFIG, "between 0 and 1"),
        ({2: np.full(SHAPE, -0.5)}, None, CONFIG, "between 0 and 1"),
    ],
)
def test_what_cannot_become_seeds_is_told(found, presence, config, reason):
    with pytest.raises(InputError, match=reason):
        make_seeds(found, presence, config)


@given(
    points=st.lists(
        st.tuples(st.tuples(*[st.integers(0, size - 1) for size in SHAPE]), st.integers(1, 255)), max_size=5
    ),
    spacing=st.tuples(*[st.sampled_from([0.1, 0.5, 1.0, 3.0])] * 3),
    radius=st.sampled_from([0.1, 0.3, 1.0, 1.7, 50.0]),
)
def test_balls_hold_what_is_near_and_the_nearest_point_wins(points, spacing, radius):
    values = grow_points(points, SHAPE, spacing, radius)
    assert values.dtype == np.uint8
    expected = np.zeros(SHAPE, np.uint8)
    for voxel in np.ndindex(SHAPE):
        distances = [np.linalg.norm((np.array(voxel) - place) * spacing) for place, _ in points]
        if points and min(distances) <= radius * (1 + 1e-6):
            last = max(i for i, distance in enumerate(distances) if distance <= min(distances) * (1 + 1e-6))
            expected[voxel] = points[last][1]
    assert (values == expected).all()


def test_a_point_in_the_corner_of_a_coarse_grid_holds_its_voxel():
    values = grow_points([((0, 0, 0), 7), ((0, 0, 0), 9)], SHAPE, (8, 8, 8), 3)
    assert values[0, 0, 0] == 9
    assert np.count_nonzero(values) == 1


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        (((4, 0, 0), 2), "not in the volume"),
        (((0, -1, 0), 2), "not in the volume"),
        (((0, 0, 0), 0), "value 0"),
        (((0, 0, 0), 256), "value 256"),
    ],
)
def test_points_that_make_no_sense_are_refused(point, reason):
    with pytest.raises(InputError, match=reason):
        grow_points([point], SHAPE, (1, 1, 1), 3)
