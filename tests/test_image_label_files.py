"""Image-level labels go through files on grids of every orientation, and what is wrong is told."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_box_files import SHAPE, affines, make_volume, names, turned

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.errors import InputError
from napari_sparseseg.image_label_files import (
    NamedImageLabel,
    find_image_labels,
    load_image_labels,
    match_label_classes,
    place_image_labels,
    save_image_labels,
    to_image_labels,
)
from napari_sparseseg.image_labels import ImageLabel
from napari_sparseseg.volume import load_labels, load_volume, volume_from_array

ODD_FILES = Path(__file__).parents[2] / "shared" / "data" / "odd_files"
real = pytest.mark.skipif(not ODD_FILES.is_dir(), reason="the real volumes of ../shared/data are not here")
HEADER = "volume,class,value,present,axis,first,last"
MM = "volume,class,value,present,axis,first_mm,last_mm"
TABLE = ClassTable.from_values([5, 3], {5: "liver", 3: "Kidney, left"})


@pytest.fixture
def volume():
    """Return a volume from (-10, -20, 30) to (-2, -10, 60) in LPS mm, of voxels of 1, 2 and 3 mm."""
    return volume_from_array(
        np.zeros((10, 5, 8)),
        affine=[[3, 0, 0, 31.5], [0, 2, 0, -19], [0, 0, 1, -9.5], [0, 0, 0, 1]],
        name="head",
    )


def write(folder, *lines, name="labels.csv", encoding="utf-8"):
    path = folder / name
    path.write_text("\n".join(lines), encoding=encoding)
    return path


def read(path, volume):
    return place_image_labels(load_image_labels(path), volume)


@st.composite
def ranges(draw, shape):
    axis = draw(st.none() | st.integers(0, 2))
    if axis is None:
        return None, None, None
    first = draw(st.integers(0, shape[axis] - 1))
    return axis, first, draw(st.integers(first, shape[axis] - 1))


@st.composite
def labels(draw, shape):
    name = draw(names)
    value = draw(st.integers(1, 2**31 - 1) if not name else st.none() | st.integers(1, 255))
    return NamedImageLabel(name or f"class {value}", value, draw(st.booleans()), *draw(ranges(shape)))


@given(data=st.data(), affine=affines(), units=st.sampled_from(["mm", "voxel"]))
def test_labels_come_back_on_every_grid(tmp_path_factory, data, affine, units):
    folder = tmp_path_factory.mktemp("grid")
    volume = make_volume(folder, affine)
    told = data.draw(st.lists(labels(volume.shape), min_size=1, max_size=4))
    save_image_labels(folder / "labels.csv", told, {"": volume}, units)
    assert read(folder / "labels.csv", volume) == told
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@given(affine=affines(), data=st.data())
def test_slices_are_those_of_nibabel(tmp_path_factory, affine, data):
    """A range of the file's own slices is the one that marked slices of the file come to."""
    folder = tmp_path_factory.mktemp("slices")
    volume = make_volume(folder, affine)
    stored_axis, first, last = data.draw(ranges(SHAPE).filter(lambda found: found[0] is not None))
    stored = np.zeros(SHAPE, bool)
    stored[(slice(None),) * stored_axis + (slice(first, last + 1),)] = True
    marked = volume.grid.to_canonical(stored)
    axis = next(
        (a for a in range(3) if marked.any(axis=tuple({0, 1, 2} - {a})).sum() < volume.shape[a]), None
    )
    axis = volume.grid.axes.index(stored_axis) if axis is None else axis
    slices = np.flatnonzero(marked.any(axis=tuple({0, 1, 2} - {axis})))
    path = write(
        folder, HEADER, f",a,,yes,{'zyx'[axis]},{first},{last}", f",a,,no,{'zyx'[axis]},{last},{first}"
    )
    (label, turned_round) = read(path, volume)
    assert (label.axis, label.first, label.last) == (axis, slices[0], slices[-1])
    assert (turned_round.first, turned_round.last) == (slices[0], slices[-1])


@pytest.mark.parametrize("degrees", [(0, 0, 0), (20, -15, 30)])
def test_a_range_in_mm_means_the_same_slices_of_a_finer_grid(tmp_path, degrees):
    """Two grids over the same space, one flipped and of half the spacing."""
    affine, fine = np.eye(4), np.eye(4)
    affine[:3, :3] = turned(degrees) * (2, 3, 4)
    fine[:3, :3] = affine[:3, :3] / 2 @ np.diag([-1, 1, -1])
    fine[:3, 3] = affine[:3, :3] @ (8.25, -0.25, 6.25)
    (tmp_path / "fine").mkdir()
    coarse, finer = make_volume(tmp_path, affine), make_volume(tmp_path / "fine", fine, (18, 16, 14))
    told = [NamedImageLabel("a", None, True, axis, 2, 4) for axis in range(3)]
    save_image_labels(tmp_path / "labels.csv", told, {"": coarse})
    found = read(tmp_path / "labels.csv", finer)
    assert [(label.axis, label.first, label.last) for label in found] == [(axis, 4, 9) for axis in range(3)]


@real
def test_real_labels_have_the_same_slices_in_every_orientation(tmp_path):
    for name in ("ref", "LAS", "LPS", "ASR", "PIR", "SLP"):
        volume = load_volume(ODD_FILES / f"image_{name}.nii.gz")
        mask = load_labels(ODD_FILES / f"label_{name}.nii.gz", volume) > 0
        told = []
        for axis in range(3):
            slices = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
            told.append(NamedImageLabel("hippocampus", 1, True, axis, int(slices[0]), int(slices[-1])))
        for units in ("mm", "voxel"):
            path = tmp_path / f"{name}_{units}.csv"
            save_image_labels(path, told, {"": volume}, units)
            assert read(path, volume) == told
        assert read(tmp_path / "ref_mm.csv", volume) == told


def test_a_table_as_people_write_it(tmp_path, volume):
    lines = [
        "Class;Present;Axis;First;Last;Remark",
        "liver;YES;Axial;4;9;sure",
        ";;;;;",
        "liver; absent ;z;0.0;3;",
        '"Kidney; left";1;;;;',
        "spleen;False;X;7;7",
    ]
    expected = [
        NamedImageLabel("liver", None, True, 0, 4, 9),
        NamedImageLabel("liver", None, False, 0, 0, 3),
        NamedImageLabel("Kidney; left", None, True),
        NamedImageLabel("spleen", None, False, 2, 7, 7),
    ]
    assert read(write(tmp_path, *lines), volume) == expected
    excel = write(tmp_path, "sep=;", *lines, encoding="utf-8-sig")
    assert read(excel, volume) == expected
    assert [row.label.place for row in load_image_labels(excel)] == [
        f"line {line} of {excel}" for line in (3, 5, 6, 7)
    ]


def test_mm_with_a_decimal_comma_are_cut_off_at_the_border(tmp_path, volume):
    path = write(
        tmp_path,
        MM.replace(",", ";"),
        ";a;;yes;axial;-900;36,1",
        ";a;;yes;sagittal;-3,6;-8,4",
        ";a;;yes;y;-20;-10",
    )
    found = [(label.axis, label.first, label.last) for label in read(path, volume)]
    assert found == [(0, 0, 1), (2, 2, 5), (1, 0, 4)]


def test_what_is_written(tmp_path, volume):
    told = [
        NamedImageLabel("Kidney, left", 3, True, 0, 4, 6, volume="head.nii.gz"),
        NamedImageLabel("liver", None, False),
        NamedImageLabel("", 5, False, 2, 0, 7, volume="head.nii.gz"),
    ]
    save_image_labels(tmp_path / "mm.csv", told, {"head.nii.gz": volume})
    assert (tmp_path / "mm.csv").read_text() == (
        f'{MM}\nhead.nii.gz,"Kidney, left",3,yes,axial,42.0,51.0\n,liver,,no,,,\n'
        "head.nii.gz,,5,no,sagittal,-10.0,-2.0\n"
    )
    save_image_labels(tmp_path / "voxel.CSV", told, {"head.nii.gz": volume}, "voxel")
    assert (tmp_path / "voxel.CSV").read_text().splitlines()[
        1
    ] == 'head.nii.gz,"Kidney, left",3,yes,axial,4,6'


@pytest.mark.parametrize(
    ("cell", "source", "is_of"),
    [
        ("", "anything.nii", True),
        ("ct.nii.gz", "/data/a/ct.nii.gz", True),
        ("ct", "/data/a/ct.nii.gz", True),
        ("a/ct.nii.gz", "/data/a/ct.nii.gz", True),
        ("a\\ct.nii.gz", "/data/a/ct.nii.gz", True),
        ("/data/a/ct.nii.gz", "/data/a/ct.nii.gz", True),
        ("b/ct.nii.gz", "/data/a/ct.nii.gz", False),
        ("/a/ct.nii.gz", "/data/a/ct.nii.gz", False),
        ("t.nii.gz", "/data/a/ct.nii.gz", False),
        ("scan.h5:/raw", "scan.h5:/raw", True),
        ("series", "/data/series", True),
    ],
)
def test_the_rows_of_a_volume(tmp_path, cell, source, is_of):
    rows = load_image_labels(write(tmp_path, HEADER, f"{cell},liver,,yes,,,"))
    assert bool(find_image_labels(rows, source, required=False)) is is_of
    if not is_of:
        with pytest.raises(InputError, match="no image-level label of"):
            find_image_labels(rows, source)


def test_classes_are_found_by_name_then_by_value(tmp_path, volume):
    path = write(
        tmp_path, HEADER, ",LIVER,7,yes,,,", ",,7,no,axial,1,2", ',"Kidney, left",,yes,,,', ",,3,no,z,0,0"
    )
    found = read(path, volume)
    assert to_image_labels(found, TABLE) == (
        ImageLabel(2, True),
        ImageLabel(2, False, 0, 1, 2),
        ImageLabel(3, True),
        ImageLabel(3, False, 0, 0, 0),
    )
    values, known = match_label_classes(found, {5: "liver"}, range(2, 256))
    assert values == [5, 5, 2, 3]
    assert known == {5: "liver", 2: "Kidney, left", 3: "class 3"}


@pytest.mark.parametrize("cells", ["spleen,,yes", ",7,yes", "spleen,5,yes"])
def test_a_class_that_is_not_in_the_table_is_told(tmp_path, volume, cells):
    path = write(tmp_path, "class,value,present", "liver,,yes", cells)
    with pytest.raises(InputError, match=r"line 3 of .* not among liver, Kidney, left"):
        to_image_labels(read(path, volume), TABLE)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([""], "is empty"),
        ([HEADER], "holds no image-level labels"),
        ([HEADER, ",,,,,,"], "holds no image-level labels"),
        (["volume,present", "a,yes"], "no column class or value"),
        (["class,value", "a,1"], "no column present"),
        (["class,present,present", "a,1,1"], "column present twice"),
        ([HEADER, ",,,yes,,,"], "line 2 of .* neither a class nor a value"),
        ([HEADER, ",,x,yes,,,"], "line 2 of .* 'x' as value"),
        ([HEADER, ",,0,yes,,,"], "the value 0"),
        ([HEADER, ",,2.5,yes,,,"], "the value 2.5"),
        ([HEADER, ",,1e99,yes,,,"], "a finite number"),
        ([HEADER, ",,2147483648,yes,,,"], "the value 2.14748e\\+09"),
        ([HEADER, ",a,,maybe,,,"], "'maybe' as present; write yes or no"),
        ([HEADER, ",a,,,,,"], "nothing as present"),
        ([HEADER, ",a,,yes,,,", ",a,,yes,up,1,2"], "line 3 of .* 'up' as axis"),
        ([HEADER, ",a,,yes,,1,2"], "nothing as axis"),
        ([HEADER, ",a,,yes,z,,"], "an axis but no range"),
        ([HEADER, ",a,,yes,z,1,"], "nothing as last"),
        ([HEADER, ",a,,yes,z,nan,2"], "'nan' as first"),
        ([HEADER, ",a,,yes,z,1,inf"], "'inf' as last"),
        ([HEADER, ",a,,yes,z,0.5,2"], "whole numbers"),
        (
            [HEADER, ",a,,yes,z,1,10"],
            r"line 2 of .* slices 1 to 10, but head has the slices 0 to 9 \(axial\)",
        ),
        ([HEADER, ",a,,yes,y,-1,2"], "slices -1 to 2"),
        ([f"{HEADER},first_mm,last_mm", ",a,,yes,z,1,2,3,4"], "both in slices and in mm"),
        ([MM, ",a,,yes,z,60.1,70"], "its axial slices lie from 30 to 60 mm"),
        ([MM, ",a,,yes,z,33,33"], "the middle of no slice"),
        ([HEADER, ",a,,yes,z,1,2,3"], "more cells than the first line"),
        ([HEADER, ',"a,,yes,z,1,2'], "not a CSV table"),
        ([HEADER, ",a\0,,yes,z,1,2", '"'], "CSV"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path, volume, lines, reason):
    with pytest.raises(InputError, match=reason):
        read(write(tmp_path, *lines), volume)


def test_files_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_image_labels(tmp_path / "labels.csv")
    with pytest.raises(InputError, match="not a file"):
        load_image_labels(tmp_path)
    (tmp_path / "image.csv").write_bytes(b"class,present\n\xff\xfe,yes\n")
    with pytest.raises(InputError, match="not UTF-8"):
        load_image_labels(tmp_path / "image.csv")
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(100_000_001)
    with pytest.raises(InputError, match="too large"):
        load_image_labels(tmp_path / "large.csv")


def test_too_many_rows_are_refused(tmp_path):
    path = write(tmp_path, "class,present", *["a,yes"] * 100_001)
    with pytest.raises(InputError, match="more than 100,000 image-level labels"):
        load_image_labels(path)


@given(text=st.text(max_size=200))
def test_any_text_is_read_or_told(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "labels.csv"
    for start in ("", f"{HEADER}\n", f"{HEADER}\n,liver,,yes,z,"):
        path.write_bytes((start + text).encode("utf-8", "surrogatepass"))
        with suppress(InputError):
            assert load_image_labels(path)


@pytest.mark.parametrize(
    ("label", "name", "reason"),
    [
        (NamedImageLabel("a", None, True), "labels.txt", "ends in .csv"),
        (NamedImageLabel("", None, True), "labels.csv", "neither a class nor a value"),
        (NamedImageLabel("a", 0, True), "labels.csv", "the value 0"),
        (NamedImageLabel("a", 2, True, 0, 5, 10), "labels.csv", "slices 5 to 10 across axis 0"),
        (NamedImageLabel("a", 2, True, 0, 5, None), "labels.csv", "slices 5 to None"),
        (NamedImageLabel("a", 2, True, 3, 0, 0), "labels.csv", "across axis 3"),
    ],
)
def test_what_cannot_be_written_is_told(tmp_path, volume, label, name, reason):
    with pytest.raises(InputError, match=reason):
        save_image_labels(tmp_path / name, [label], {"": volume})
    assert list(tmp_path.iterdir()) == []
