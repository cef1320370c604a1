import sqlite3

import numpy as np
import pytest

from napari_sparseseg.errors import InputError
from napari_sparseseg.project import BoxRecord, ImageLabelRecord, Project
from napari_sparseseg.project_records import PointRecord
from napari_sparseseg.project_store import DATABASE_NAME


@pytest.fixture
def project(tmp_path):
    with Project.create(tmp_path / "project") as opened:
        for name in ("head", "liver"):
            opened.add_case(name, (4, 5, 6), (1, 1, 1), np.eye(4))
        yield opened


def test_boxes_come_back(project):
    first = project.hints.add_box(1, 2, (0, 0, 0), (4, 5, 6))
    second = project.hints.add_box(1, np.uint8(3), np.array([1, 1, 1]), np.array([2, 3, 4]))
    other = project.hints.add_box(2, 2, (0, 0, 0), (1, 1, 1))
    expected = (BoxRecord(first, 1, 2, (0, 0, 0), (4, 5, 6)), BoxRecord(second, 1, 3, (1, 1, 1), (2, 3, 4)))
    assert project.hints.boxes(1) == expected
    project.hints.remove_box(1, other)  # it is another case's
    project.hints.remove_box(1, first)
    project.close()
    with Project.open(project.folder) as again:
        assert again.hints.boxes(1) == expected[1:]
        assert [box.number for box in again.hints.boxes(2)] == [other]


@pytest.mark.parametrize(
    ("value", "start", "stop"),
    [
        (2, (0, 0, 0), (4, 5, 7)),
        (2, (-1, 0, 0), (4, 5, 6)),
        (2, (1, 1, 1), (1, 2, 2)),
        (2, (0, 0), (1, 1)),
        (2, (0, 0, 0.5), (1, 1, 1)),
        (2, None, (1, 1, 1)),
        (0, (0, 0, 0), (1, 1, 1)),
        (256, (0, 0, 0), (1, 1, 1)),
        ("liver", (0, 0, 0), (1, 1, 1)),
    ],
)
def test_boxes_that_make_no_sense_are_refused(project, value, start, stop):
    with pytest.raises(InputError):
        project.hints.add_box(1, value, start, stop)
    assert project.hints.boxes(1) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"value": 3},
        {"start": (1, 1, 1)},
        {"stop": np.array([4, 5, 6])},
        {"value": np.uint8(255), "start": (2, 3, 4), "stop": (4, 5, 6)},
        {},
    ],
)
def test_a_box_takes_another_class_and_other_corners(project, change):
    number = project.hints.add_box(1, 2, (0, 0, 0), (2, 2, 2))
    other = project.hints.add_box(1, 2, (0, 0, 0), (2, 2, 2))
    heard = []
    project.hints.changed.connect(heard.append)
    project.hints.change_box(1, number, **change)
    expected = {"value": 2, "start": (0, 0, 0), "stop": (2, 2, 2)}
    expected |= {key: tuple(map(int, new)) if np.ndim(new) else int(new) for key, new in change.items()}
    assert heard == [1]
    project.close()
    with Project.open(project.folder) as again:
        assert again.hints.boxes(1) == (
            BoxRecord(number, 1, **expected),
            BoxRecord(other, 1, 2, (0, 0, 0), (2, 2, 2)),
        )


@pytest.mark.parametrize(
    ("case", "number", "change", "reason"),
    [
        (1, 1, {"value": 0}, "the class value must be between"),
        (1, 1, {"start": (2, 0, 0)}, "must hold voxels of the image head"),
        (1, 1, {"stop": (2, 2, 7)}, "draw it inside the image"),
        (1, 1, {"value": 3, "stop": (2, 2, 0.5)}, "draw it inside the image"),
        (1, 2, {"value": 3}, "there is no box 2 in head"),
        (2, 1, {"value": 3}, "there is no box 1 in liver"),
        (7, 1, {"value": 3}, "no case 7"),
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(project, case, number, change, reason):
    project.hints.add_box(1, 2, (0, 0, 0), (2, 2, 2))
    heard = []
    project.hints.changed.connect(heard.append)
    with pytest.raises(InputError, match=reason):
        project.hints.change_box(case, number, **change)
    assert project.hints.boxes(1) == (BoxRecord(1, 1, 2, (0, 0, 0), (2, 2, 2)),)
    assert heard == []


def test_an_image_label_replaces_the_one_before(project):
    project.hints.set_image_label(1, 2, True)
    whole = project.hints.set_image_label(1, 2, False)
    part = project.hints.set_image_label(1, 2, True, 2, 0, 5)
    other = project.hints.set_image_label(1, 3, True)
    assert project.hints.image_labels(1) == (
        ImageLabelRecord(whole, 1, 2, False),
        ImageLabelRecord(part, 1, 2, True, 2, 0, 5),
        ImageLabelRecord(other, 1, 3, True),
    )
    project.hints.remove_image_label(1, whole)
    assert [label.number for label in project.hints.image_labels(1)] == [part, other]
    assert project.hints.image_labels(2) == ()


@pytest.mark.parametrize(
    "where", [(3, 0, 1), (0, 0, 4), (0, 2, 1), (0, -1, 1), (None, 0, 1), (0, None, None), (0, 0.5, 1)]
)
def test_slices_outside_the_image_are_refused(project, where):
    with pytest.raises(InputError, match="slices"):
        project.hints.set_image_label(1, 2, True, *where)


def test_points_come_back(project):
    first = project.hints.add_point(1, 2, (3, 4, 5))
    second = project.hints.add_point(1, np.uint8(1), np.array([0, 1, 2]))
    other = project.hints.add_point(2, 2, (0, 0, 0))
    expected = (PointRecord(first, 1, 2, (3, 4, 5)), PointRecord(second, 1, 1, (0, 1, 2)))
    assert project.hints.points(1) == expected
    project.hints.remove_point(1, other)  # it is another case's
    project.hints.remove_point(1, first)
    project.close()
    with Project.open(project.folder) as again:
        assert again.hints.points(1) == expected[1:]
        assert [point.number for point in again.hints.points(2)] == [other]


@pytest.mark.parametrize(
    ("value", "voxel"),
    [
        (2, (4, 0, 0)),
        (2, (0, 0, -1)),
        (2, (0, 0)),
        (2, (0, 0, 0.5)),
        (2, None),
        (0, (0, 0, 0)),
        (256, (0, 0, 0)),
        ("liver", (0, 0, 0)),
    ],
)
def test_points_that_make_no_sense_are_refused(project, value, voxel):
    heard = []
    project.hints.changed.connect(heard.append)
    with pytest.raises(InputError):
        project.hints.add_point(1, value, voxel)
    assert project.hints.points(1) == ()
    assert heard == []


@pytest.mark.parametrize(
    ("column", "content"),
    [("voxel", "'[0, 0]'"), ("voxel", "'[9, 0, 0]'"), ("voxel", "'no'"), ("value", "'x'")],
)
def test_a_damaged_point_is_told(project, column, content):
    project.hints.add_point(1, 2, (0, 0, 0))
    project.close()
    database = sqlite3.connect(project.folder / DATABASE_NAME)
    database.execute(f"UPDATE points SET {column} = {content}")
    database.commit()
    database.close()
    with Project.open(project.folder) as again, pytest.raises(InputError, match="damaged"):
        again.hints.points(1)


def test_a_change_is_announced_and_a_missing_case_is_told(project):
    heard = []
    project.hints.changed.connect(heard.append)
    box = project.hints.add_box(1, 2, (0, 0, 0), (1, 1, 1))
    label = project.hints.set_image_label(2, 2, True)
    project.hints.remove_box(1, box)
    project.hints.remove_image_label(2, label)
    point = project.hints.add_point(2, 2, (0, 0, 0))
    project.hints.remove_point(2, point)
    assert heard == [1, 2, 1, 2, 2, 2]
    with pytest.raises(InputError, match="no case 7"):
        project.hints.boxes(7)
