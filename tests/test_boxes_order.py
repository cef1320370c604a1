import re

import numpy as np
import pytest
from test_boxes import MM, ball, dice, each_method, mask_of, noisy, quick, run, shadow_of

from napari_sparseseg import boxes as boxes_module
from napari_sparseseg.box_geometry import Box, bounding_box
from napari_sparseseg.events import Noted, finish


@pytest.mark.parametrize(
    ("spacing", "lengths", "slices"),
    [
        (MM, (1, 2, 8), 2),
        (MM, (1, 8, 9), 3),
        ((4.0, 1.0, 1.0), (1, 8, 9), 2),
        ((9.0, 1.0, 1.0), (1, 4, 4), 1),
    ],
)
def test_beside_a_box_on_one_slice_as_far_as_it_is_wide_is_ignored(spacing, lengths, slices):
    box = Box((5, 3, 4), tuple(np.add((5, 3, 4), lengths).tolist()), 2)
    image = np.zeros((1, 12, 20, 20), np.float32)
    annotation = run(image, [box], quick("box"), spacing)[0].annotation
    expected = np.ones(annotation.shape, np.uint8)
    expected[shadow_of(box, 0, slices, annotation.shape)] = 0
    expected[box.region] = 2
    assert np.array_equal(annotation, expected)


def test_a_box_cut_to_one_slice_and_boxes_of_the_class_cast_or_get_no_shadow():
    image = np.zeros((1, 6, 12, 12), np.float32)
    reaching = Box((-3, 2, 2), (1, 8, 8), 2)
    annotation = run(image, [reaching], quick("box"))[0].annotation
    assert (annotation[1:] == 1).all()
    drawn = [Box((2, 2, 2), (3, 10, 10), 3), Box((3, 4, 4), (4, 8, 8), 3), Box((1, 5, 5), (2, 7, 7), 4)]
    annotation = run(image, drawn, quick("box_inner"))[0].annotation
    assert (annotation[5, 2:10, 2:10] == 0).all()
    assert (annotation[1, 5:7, 5:7] == 4).any()  # a box of another class stands in the shadow
    plain = run(image, drawn[:2], quick("box"))[0].annotation
    assert np.array_equal(plain[3] == 3, mask_of(drawn[1], plain.shape)[3])


@each_method
def test_the_order_of_the_boxes_does_not_matter(method):
    truth = ball((12, 12, 24), 4.5, (5, 5, 6))
    image = noisy(truth, 0.6)
    box = bounding_box(truth, 2)
    same_size = Box(tuple(n + 1 for n in box.start), tuple(n + 1 for n in box.stop), 4)
    listed = [box, same_size, Box((9, 3, 12), (10, 10, 18), 3), Box((2, 2, 14), (9, 9, 23), 3)]
    expected = run(image, listed, quick(method, iterations=2))[0]
    for order in ((3, 2, 1, 0), (1, 3, 0, 2)):
        found = run(image, [listed[n] for n in order], quick(method, iterations=2))[0]
        assert np.array_equal(found.annotation, expected.annotation)
        assert {order[n] for n in found.fallen_back} == set(expected.fallen_back)


def test_boxes_of_one_size_are_drawn_differently():
    shape = (14, 14, 50)
    parts = [ball(shape, 6, (6.5, 6.5, middle)) for middle in (8, 24, 40)]
    boxes = [bounding_box(part, 2) for part in parts]
    drawn = []

    def segment(scene, config, random):
        drawn.append(random.random())
        yield 1.0
        return np.full(scene.box.shape, 2, np.uint8)

    method = boxes_module._by_box(segment)
    for _ in range(2):
        finish(method(noisy(parts[0]), MM, boxes, quick("box")))
    assert drawn[:3] == drawn[3:]
    assert len(set(drawn)) == 3


def test_the_reason_for_falling_back_is_told():
    truth = ball((16, 16, 40), 6, (7.5, 7.5, 9))
    image = noisy(truth, 0.1)

    def reasons(image, box, method, **changes):
        events = run(image, [box], quick(method, **changes))[1]
        return [event.text for event in events if isinstance(event, Noted)]

    whole = Box((0, 0, 0), truth.shape, 2)
    for method in ("grabcut", "grabcut_plus"):
        assert "nothing round it" in reasons(image, whole, method)[0]
    assert not any("round it" in text for text in reasons(image, whole, "proposals", least_share=1))
    little = reasons(image, bounding_box(truth, 2), "grabcut", least_share=0.95)
    assert re.fullmatch(
        r"Box 1: only \d\d\.\d % of it was found to be the object, so its middle is taken instead\.", *little
    )


def test_a_neighbour_of_the_same_kind_does_not_spoil_the_background():
    truth, neighbour = ball((16, 18, 40), 6, (7.5, 8.5, 12)), ball((16, 18, 40), 7.5, (7.5, 8.5, 29))
    boxes = [bounding_box(truth, 2), bounding_box(neighbour, 3)]
    for method in ("grabcut", "grabcut_plus"):
        annotation = run(noisy(truth | neighbour, 0.4), boxes, quick(method))[0].annotation
        assert dice(annotation == 2, truth) > 0.85
        assert dice(annotation == 3, neighbour) > 0.85
