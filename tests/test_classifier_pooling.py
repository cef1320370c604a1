import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.classifier_bags import Bag, BagSource
from napari_sparseseg.classifier_pooling import absence_loss, absent_features, bag_loss, pool_boxes
from napari_sparseseg.image_labels import ImageLabel, Presence


@st.composite
def boxes(draw, shape):
    start = tuple(draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    return Bag(0, start, stop, 2, True)


SHAPE = (9, 14, 11)


@given(boxes(SHAPE), st.tuples(*[st.sampled_from([1, 2, 4])] * 3), st.integers(0, 10))
def test_a_bag_has_the_mean_of_the_nearest_features(bag, strides, seed):
    counts = [-(-n // s) for n, s in zip(SHAPE, strides, strict=True)]
    features = torch.from_numpy(np.random.default_rng(seed).normal(size=(3, *counts)))
    # A voxel half-way between two features is shared by them: compare on a grid twice as fine.
    fine = [(np.arange(2 * n) + 0.5) / 2 - 0.5 for n in SHAPE]
    nearest = [
        np.clip(np.rint(v / s), 0, c - 1).astype(int) for v, s, c in zip(fine, strides, counts, strict=True)
    ]
    dense = features[:, nearest[0]][:, :, nearest[1]][:, :, :, nearest[2]]
    (z0, y0, x0), (z1, y1, x1) = bag.start, bag.stop
    expected = dense[:, 2 * z0 : 2 * z1, 2 * y0 : 2 * y1, 2 * x0 : 2 * x1].mean((1, 2, 3))
    torch.testing.assert_close(pool_boxes(features, [bag], strides)[0], expected)


@given(boxes(SHAPE), st.tuples(*[st.integers(0, 3)] * 3))
def test_where_a_part_begins_is_counted(bag, start):
    shift = [min(a, b) for a, b in zip(start, bag.start, strict=True)]
    moved = Bag(
        0,
        tuple(a - s for a, s in zip(bag.start, shift, strict=True)),
        tuple(b - s for b, s in zip(bag.stop, shift, strict=True)), 2, True,
    )  # fmt: skip
    features = torch.randn(2, 5, 7, 6)
    one = pool_boxes(features, [bag], (2, 2, 2), tuple(shift))
    assert torch.equal(one, pool_boxes(features, [moved], (2, 2, 2)))


def test_the_whole_volume_is_pooled_globally():
    features = torch.randn(4, 3, 5, 2)
    whole = Bag(0, (0, 0, 0), (3, 5, 2), 2, True)
    torch.testing.assert_close(pool_boxes(features, [whole], (1, 1, 1))[0], features.mean((1, 2, 3)))


@given(
    st.tuples(*[st.integers(0, 8)] * 3),
    st.tuples(*[st.sampled_from([1, 2, 4])] * 3),
    st.tuples(*[st.integers(-3, 0)] * 3),
    st.integers(0, 3),
)
def test_features_that_lack_a_class_see_no_voxel_of_it(first, strides, start, size):
    labels, mask = [ImageLabel(3, False)], np.zeros(SHAPE, bool)
    last = [min(a + size, n - 1) for a, n in zip(first, SHAPE, strict=True)]
    mask[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))] = True
    for axis in (0, 2):
        labels.append(ImageLabel(2, True, axis, first[axis], last[axis]))
    allowed = (np.arange(SHAPE[0]) != 4, np.ones(SHAPE[1], bool), np.ones(SHAPE[2], bool))
    source = BagSource(Presence(labels, SHAPE, 3), allowed)
    counts = tuple(-(-(n - a) // s) for n, a, s in zip(SHAPE, start, strides, strict=True))
    absent = absent_features(source, counts, strides, start)
    assert absent.shape == (2, *counts)
    assert absent[1].mean() > 0.5
    for index in np.argwhere(absent[0]):
        low, high = (start + np.array(strides) * (index + side) for side in (-0.5, 0.5))
        box = tuple(
            slice(max(0, int(np.ceil(a))), max(0, int(np.ceil(b)))) for a, b in zip(low, high, strict=True)
        )
        assert not mask[box].any()


def test_both_answers_weigh_the_same():
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])
    bags = [Bag(0, (0, 0, 0), (1, 1, 1), 2, shown) for shown in (True, True, True, False)]
    shown, lacking = (-torch.nn.functional.logsigmoid(torch.tensor(v)) for v in (2.0, 1.0))
    torch.testing.assert_close(bag_loss(logits, bags), (shown + lacking) / 2)
    torch.testing.assert_close(bag_loss(logits[:1], bags[:1]), shown / 2)
    other = [*bags, Bag(0, (0, 0, 0), (1, 1, 1), 3, False)]
    logits = torch.cat([logits, torch.zeros(1, 2)])
    torch.testing.assert_close(
        bag_loss(logits, other), (shown + lacking) / 4 + torch.log(torch.tensor(2.0)) / 4
    )


def test_what_is_not_known_to_be_absent_is_left_alone():
    maps = torch.randn(2, 3, 3, 3, requires_grad=True)
    absent = np.zeros((2, 3, 3, 3), bool)
    absent[0, 1] = True
    absence_loss(maps, absent, [0, 1]).backward()
    assert (maps.grad[0, 1] > 0).all()
    assert not maps.grad[1].any()
    assert not maps.grad[0, [0, 2]].any()
    assert absence_loss(maps, np.zeros_like(absent), [0, 1]) == 0
