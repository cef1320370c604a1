"""Boxes go through files of every kind on grids of every orientation, and what is wrong is told."""

import itertools
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.box_files import NamedBox, load_boxes, save_boxes
from napari_sparseseg.box_geometry import bounding_box
from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import load_labels, load_volume, placed_box, volume_from_array

ODD_FILES = Path(__file__).parents[2] / "shared" / "data" / "odd_files"
real = pytest.mark.skipif(not ODD_FILES.is_dir(), reason="the real volumes of ../shared/data are not here")
SHAPE = (9, 8, 7)  # of the file, I, J, K
HEADER = "class,value,x_min,y_min,z_min,x_max,y_max,z_max"
names = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12).map(str.strip)


def turned(degrees):
    """Return a rotation by angles about x, y and z."""
    x, y, z = np.radians(degrees)
    about_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    about_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    return np.array(about_x) @ about_y @ about_z


@st.composite
def affines(draw, largest_angle=30):
    angles = draw(st.tuples(*[st.floats(-largest_angle, largest_angle)] * 3))
    order = np.eye(3)[list(draw(st.permutations(range(3))))] * draw(
        st.tuples(*[st.sampled_from([1, -1])] * 3)
    )
    affine = np.eye(4)
    affine[:3, :3] = turned(angles) @ order * draw(st.tuples(*[st.floats(1e-4, 12)] * 3))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return affine


@st.composite
def boxes(draw, shape=SHAPE):
    edges = [
        sorted(draw(st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True))) for size in shape
    ]
    name = draw(names)
    value = draw(st.integers(1, 2**31 - 1) if not name else st.none() | st.integers(1, 255))
    return NamedBox(tuple(a for a, _ in edges), tuple(b for _, b in edges), name, value)


def make_volume(folder, affine, shape=SHAPE):
    path = folder / "image.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.uint8), affine), path)
    return load_volume(path)


@pytest.fixture
def volume(tmp_path):
    """Return a volume from (-10, -20, 30) to (-2, -10, 60) in LPS mm, of voxels of 1, 2 and 3 mm."""
    return volume_from_array(
        np.zeros((10, 5, 8)),
        affine=[[3, 0, 0, 31.5], [0, 2, 0, -19], [0, 0, 1, -9.5], [0, 0, 0, 1]],
        name="head",
    )


def write(folder, content, name="boxes.csv", encoding="utf-8"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding=encoding)
    return path


@given(
    data=st.data(),
    affine=affines(),
    units=st.sampled_from(["mm", "voxel"]),
    suffix=st.sampled_from([".csv", ".json", ".JSON"]),
)
def test_boxes_come_back_on_every_grid(tmp_path_factory, data, affine, units, suffix):
    folder = tmp_path_factory.mktemp("grid")
    volume = make_volume(folder, affine)
    drawn = data.draw(st.lists(boxes(volume.shape), min_size=1, max_size=4))
    save_boxes(folder / f"boxes{suffix}", drawn, volume, units)
    assert load_boxes(folder / f"boxes{suffix}", volume) == drawn
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@given(affine=affines(), data=st.data())
def test_corners_are_those_of_nibabel_and_itk(tmp_path_factory, affine, data):
    folder = tmp_path_factory.mktemp("corners")
    volume = make_volume(folder, affine)
    box = data.draw(boxes())  # of the file's own axes
    stored = np.zeros(SHAPE, bool)
    stored[tuple(map(slice, box.start, box.stop))] = True
    expected = bounding_box(volume.grid.to_canonical(stored), 2)
    stored_affine = nibabel.load(folder / "image.nii").affine
    ends = np.array([box.start, box.stop]) - 0.5
    in_mm = nibabel.affines.apply_affine(stored_affine, ends) * [-1, -1, 1]  # RAS -> LPS
    for corners, units in (
        ([box.start, box.stop], "voxel"),
        (in_mm.tolist(), "mm"),
        (in_mm[::-1].tolist(), "mm"),
    ):
        content = {"units": units, "boxes": [{"value": 2, "min": corners[0], "max": corners[1]}]}
        (loaded,) = load_boxes(write(folder, content, "boxes.json"), volume)
        assert (loaded.start, loaded.stop) == (expected.start, expected.stop)
    low, high = placed_box(volume, expected.start, expected.stop, "voxel")
    assert (*np.rint(low), *np.rint(high)) == (*box.start, *box.stop)


@given(affine=affines(largest_angle=0), data=st.data())
def test_coordinates_grow_where_the_grid_is_straight(tmp_path_factory, affine, data):
    volume = make_volume(tmp_path_factory.mktemp("straight"), affine)
    box = data.draw(boxes(volume.shape))
    for units in ("mm", "voxel"):
        low, high = placed_box(volume, box.start, box.stop, units)
        assert (low < high).all()


@real
@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_real_labels_have_the_same_box_in_every_orientation(tmp_path, suffix):
    reference = None
    for name in ("ref", "LAS", "LPS", "ASR", "PIR", "SLP"):
        volume = load_volume(ODD_FILES / f"image_{name}.nii.gz")
        labels = load_labels(ODD_FILES / f"label_{name}.nii.gz", volume)
        found = bounding_box(labels > 0, 2)
        box = NamedBox(found.start, found.stop, "hippocampus", 1)
        corners = placed_box(volume, box.start, box.stop)
        inside = np.argwhere(np.asarray(nibabel.load(ODD_FILES / f"label_{name}.nii.gz").dataobj) > 0)
        for units in ("mm", "voxel"):
            path = tmp_path / f"{name}_{units}{suffix}"
            save_boxes(path, [box], volume, units)
            assert load_boxes(path, volume) == [box]
        low, high = placed_box(volume, box.start, box.stop, "voxel")
        assert np.allclose([low, high], [inside.min(axis=0), inside.max(axis=0) + 1])
        reference = corners if reference is None else reference
        assert np.abs(corners - reference).max() < 1e-3
        assert load_boxes(tmp_path / f"ref_mm{suffix}", volume) == [box]


@real
def test_a_real_oblique_file(tmp_path):
    volume = load_volume(ODD_FILES / "oblique_aniso.nii.gz")
    labels = load_labels(ODD_FILES / "oblique_aniso_label.nii.gz", volume)
    found = bounding_box(labels > 0, 2)
    box = NamedBox(found.start, found.stop, "organ")
    for units, name in itertools.product(("mm", "voxel"), ("a.csv", "a.json")):
        save_boxes(tmp_path / name, [box], volume, units)
        assert load_boxes(tmp_path / name, volume) == [box]


TABLES = {
    "plain": f"{HEADER}\nliver,5,-9,-18,33,-5,-14,39\n",
    "with a byte order mark": f"\ufeff{HEADER}\nliver,5,-9,-18,33,-5,-14,39\n",
    "from Excel in Europe": f"{HEADER.replace(',', ';')}\r\nliver;5;-9,0;-18,0;33,0;-5,0;-14,0;39,0\r\n",
    "from Excel with its first line": f"sep=;\n{HEADER.replace(',', ';')}\nliver;5;-9;-18;33;-5;-14;39\n",
    "with tabs": f"{HEADER},note\nliver,5,-9,-18,33,-5,-14,39,large\n".replace(",", "\t"),
    "in capitals, with spaces": f"{HEADER.upper().replace(',', ', ')}\nliver ,5, -9,-18,33,-5,-14,39\n\n,,\n",
    "with empty rows": f"{HEADER}\n,,,,,,,\nliver,5,-9,-18,33,-5,-14,39\n , ,\n{',' * 20}\n",
    "in another order": "z_max,y_max,x_max,z_min,y_min,x_min,value,class\n39,-14,-5,33,-18,-9,5.0,liver\n",
    "reversed": f"{HEADER}\nliver,5,-5,-18,39,-9,-14,33\n",
    "with units": f"{HEADER},units\nliver,5,-9,-18,33,-5,-14,39,MM\n",
    "in voxels": f"{HEADER},units\nliver,5,1,1,1,5,3,3,voxels\n",
    "in voxels, one letter short": f"{HEADER},unit\nliver,5,1,1,1,5,3,3,voxel\n",
    "near the borders": f"{HEADER}\nliver,5,-9.3,-18.4,34.1,-5.4,-14.4,39.9\n",
    "of centres of voxels": f"{HEADER}\nliver,5,-8.5,-17,34.5,-5.5,-15,37.5\n",
    "quoted": "\n".join(f'"{line}"'.replace(",", '","') for line in (HEADER, "liver,5,-9,-18,33,-5,-14,39")),
}


@pytest.mark.parametrize("table", TABLES)
def test_tables_that_mean_the_same(tmp_path, volume, table):
    path = write(tmp_path, TABLES[table])
    assert load_boxes(path, volume) == [NamedBox((1, 1, 1), (3, 3, 5), "liver", 5)]


def test_units_may_differ_by_row_and_class_or_value_be_missing(tmp_path, volume):
    table = "class,x_min,y_min,z_min,x_max,y_max,z_max,units\na,-9,-18,33,-5,-14,39,\nb,1,1,1,5,3,3,voxel\n"
    first, second = load_boxes(write(tmp_path, table), volume)
    assert first == NamedBox((1, 1, 1), (3, 3, 5), "a")
    assert second == NamedBox((1, 1, 1), (3, 3, 5), "b")
    table = f"{HEADER.removeprefix('class,')}\n7,-9,-18,33,-5,-14,39\n"
    assert load_boxes(write(tmp_path, table), volume) == [NamedBox((1, 1, 1), (3, 3, 5), "", 7)]
    content = {"boxes": [{"class": "ü", "min": [1, 1, 1], "max": [5, 3, 3], "units": "voxel"}]}
    assert load_boxes(write(tmp_path, content, "a.json"), volume)[0].name == "ü"


def test_voxels_are_those_of_the_file_not_of_the_program(tmp_path):
    volume = make_volume(tmp_path, np.eye(4))  # RAS: x and y run against the program's
    path = write(tmp_path, f"{HEADER},units\nliver,,0,1,2,4,3,7,voxel\n")
    assert load_boxes(path, volume) == [NamedBox((2, 5, 5), (7, 7, 9), "liver")]


def test_what_reaches_out_is_cut_off(tmp_path, volume):
    path = write(tmp_path, f"{HEADER}\nall,2,-1e3,-1e3,-1e3,1e3,1e3,1e3\npart,3,-3,-18,-99,99,-14,33\n")
    everything, part = load_boxes(path, volume)
    assert (everything.start, everything.stop) == ((0, 0, 0), volume.shape)
    assert (part.start, part.stop) == ((0, 1, 7), (1, 3, 8))


GOOD = "-9,-18,33,-5,-14,39"
REFUSED = {
    "one column short": (f"{HEADER[:-6]}\nliver,5,{GOOD}\n", "no column z_max"),
    "no class": (f"{HEADER[12:]}\n{GOOD}\n", "no column class or value"),
    "a column twice": (f"{HEADER},x_min\nliver,5,{GOOD},1\n", "column x_min twice"),
    "no header": (f"liver,5,{GOOD}\n", "its first line must name"),
    "text": (f"{HEADER}\nliver,5,{GOOD}\nliver,5,left,-18,33,-5,-14,39\n", "line 3 .* has 'left' as x_min"),
    "text after Excel's line": (f"sep=,\n{HEADER}\nliver,5,left,0,0,0,0,0\n", "line 3 of .*'left'"),
    "NaN": (f"{HEADER}\nliver,5,-9,nan,33,-5,-14,39\n", "line 2 of .* has 'nan' as y_min; give a finite"),
    "infinity": (f"{HEADER}\nliver,5,-9,-18,33,-5,-14,1e999\n", "has '1e999' as z_max"),
    "a place beyond the sky": (f"{HEADER}\nliver,5,-9,-18,33,-5,-14,1e300\n", "has '1e300' as z_max"),
    "a short row": (f"{HEADER}\nliver,5,-9,-18\n", "has nothing as z_min"),
    "decimal commas": (f"{HEADER}\nliver,5,-9,0,-18,0,33,0,-5,0,-14,0,39,0\n", "more cells than .* decimals "
                       "with a point"),
    "a thousand or a decimal comma": (f'{HEADER}\nliver,5,"-9,000",-18,33,-5,-14,39\n',
                                      "has '-9,000' as x_min; .* decimals with a point"),
    "a value of many digits": (f"{HEADER}\nliver,{10**400},{GOOD}\n", "as value; give a whole number from 1"),
    "but a note": (f"{HEADER},note\n,,,,,,,,large\n", "line 2 of .* has nothing as x_min"),
    "cells beyond the first line": (f"{HEADER}\n,,,,,,,,large\n", "more cells than"),
    "no boxes": (f"{HEADER}\n", "holds no boxes"),
    "nothing": ("\n  \n", "is empty"),
    "nobody's": (f"{HEADER}\n,,{GOOD}\n", "neither a class nor a value"),
    "a value of text": (f"{HEADER}\nliver,five,{GOOD}\n", "has 'five' as value; give a whole number from 1"),
    "half a value": (f"{HEADER}\nliver,5.5,{GOOD}\n", "has the value 5.5"),
    "unlabelled": (f"{HEADER}\nliver,0,{GOOD}\n", "whole number from 1 on"),
    "other units": (f"{HEADER},units\nliver,5,{GOOD},inch\n", "units 'inch'; give mm or voxel"),
    "zero size": (f"{HEADER}\nliver,5,-9,-18,33,-5,-18,39\n", "line 2 .* zero size"),
    "zero size in the middle of voxels": (f"{HEADER}\nliver,5,-9,-17,33,-5,-17,39\n", "zero size"),
    "thinner than a voxel": (f"{HEADER}\nliver,5,-9,-18,33.1,-5,-14,33.3\n", "holds the centre of no voxel"),
    "outside": (f"{HEADER}\nliver,5,100,0,0,110,9,9\n", r"head, whose voxels lie from \(-10, -20, 30\) to "
                r"\(-2, -10, 60\) mm in LPS; check"),
    "beside": (f"{HEADER}\nliver,5,-2,-18,33,5,-14,39\n", "outside head"),
    "in RAS": (f"{HEADER}\nliver,5,9,18,33,5,14,39\n", "if its x and y are in RAS, turn their signs"),
    "outside in voxels": (f"{HEADER},units\nliver,5,8,0,0,9,1,1,voxel\n", r"to \(8, 5, 10\) in voxels"),
    "an open quote": (f'{HEADER}\n"liver,5,{GOOD}\n', "not a CSV table"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", REFUSED)
def test_mistakes_in_tables_are_told(tmp_path, volume, mistake):
    content, reason = REFUSED[mistake]
    with pytest.raises(InputError, match=reason) as refusal:
        load_boxes(write(tmp_path, content), volume)
    assert "boxes.csv" in str(refusal.value)
    assert "\n" not in str(refusal.value)


PLACED = {"class": "liver", "min": [-9, -18, 33], "max": [-5, -14, 39]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", 'no list "boxes"'),
        ({"boxes": {}}, 'no list "boxes"'),
        ({"boxes": []}, "holds no boxes"),
        ({"boxes": [PLACED, 3]}, "box 2 of .* is 3"),
        (
            {"boxes": [PLACED, {"class": "liver", "min": [0, 0, 0]}]},
            "box 2 of .* has no max of three numbers",
        ),
        ({"boxes": [PLACED | {"min": [0, 0]}]}, "no min of three"),
        ({"boxes": [PLACED | {"min": [0, "0", 0]}]}, "has '0' as min"),
        ({"boxes": [PLACED | {"min": [0, True, 0]}]}, "has True as min"),
        ({"boxes": [PLACED | {"min": [0, None, 0]}]}, "has nothing as min"),
        ({"boxes": [PLACED | {"min": [0, float("nan"), 0]}]}, "has nan as min"),
        ({"boxes": [PLACED | {"min": [0, 10**400, 0]}]}, "as min; give a finite number"),
        ({"boxes": [PLACED | {"class": 5}]}, "class 5, which is no text"),
        ({"boxes": [PLACED | {"class": " "}]}, "neither a class nor a value"),
        ({"boxes": [PLACED | {"value": "5"}]}, "value '5'"),
        ({"boxes": [PLACED | {"value": True}]}, "value True"),
        ({"boxes": [PLACED | {"value": float("nan")}]}, "value nan"),
        ({"boxes": [PLACED], "units": ["mm"]}, "units \\['mm'\\]"),
        ({"markups": []}, "no region of interest"),
    ],
)
def test_mistakes_in_json_are_told(tmp_path, volume, content, reason):
    with pytest.raises(InputError, match=reason) as refusal:
        load_boxes(write(tmp_path, content, "boxes.json"), volume)
    assert "boxes.json" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_files_that_cannot_be_read_or_written(tmp_path, volume):
    (tmp_path / "folder.csv").mkdir()
    write(tmp_path, f"{HEADER}\nöl,5,{GOOD}\n", "latin.csv", "latin-1")
    (tmp_path / "code.json").write_bytes(b"\x80\x04]\x94.")  # a pickle
    for name, reason in (
        ("missing.csv", "does not exist"),
        ("boxes.xlsx", "ends in .csv or .json"),
        ("folder.csv", "is not a file"),
        ("latin.csv", "save it as UTF-8"),
        ("code.json", "save it as UTF-8"),
    ):
        with pytest.raises(InputError, match=reason):
            load_boxes(tmp_path / name, volume)
    box = NamedBox((0, 0, 0), (1, 1, 1), "liver")
    for name, drawn, units, reason in (
        ("a.txt", box, "mm", "ends in .csv or .json"),
        ("a.csv", box, "inch", "give mm or voxel"),
        ("a.csv", NamedBox((0, 0, 0), (1, 1, 1), ""), "mm", "neither a class nor a value"),
        ("latin.csv/a.csv", box, "mm", "cannot be written"),
    ):
        with pytest.raises(InputError, match=reason):
            save_boxes(tmp_path / name, [drawn], volume, units)


def test_what_is_written_can_be_read_by_people(tmp_path, volume):
    drawn = [NamedBox((1, 1, 1), (3, 3, 5), "liver", np.int64(5)), NamedBox((0, 0, 0), (1, 1, 1), "a, b")]
    save_boxes(tmp_path / "a.csv", drawn, volume)
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        f"{HEADER},units",
        "liver,5,-9.0,-18.0,33.0,-5.0,-14.0,39.0,mm",
        '"a, b",,-10.0,-20.0,30.0,-9.0,-18.0,33.0,mm',
    ]
    save_boxes(tmp_path / "a.json", drawn, volume, "voxel")
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "units": "voxel",
        "boxes": [
            {"class": "liver", "value": 5, "min": [1, 1, 1], "max": [5, 3, 3]},
            {"class": "a, b", "min": [0, 0, 0], "max": [1, 1, 1]},
        ],
    }


def make_region(volume, box, system="LPS", order=(0, 1, 2), degrees=0.0):
    """Return a region as 3D Slicer saves it: turned axes in the columns of `orientation`, row by row."""
    sides = volume.affine[2::-1, :3] / volume.spacing  # LPS x, y, z of the axes z, y, x, in columns
    axes = (sides @ turned((0, 0, degrees)))[:, list(order)] * [1, -1, 1]
    size = (np.subtract(box.stop, box.start) * volume.spacing)[list(order)]
    center = placed_box(volume, box.start, box.stop).mean(axis=0)
    if system == "RAS":
        center, axes = center * [-1, -1, 1], axes * np.array([[-1], [-1], [1]])
    return {
        "type": "ROI",
        "coordinateSystem": system,
        "coordinateUnits": ["mm", "UCUM", "millimeter"],
        "roiType": "Box",
        "center": center.tolist(),
        "orientation": axes.ravel().tolist(),
        "size": size.tolist(),
        "controlPoints": [{"label": "R-1", "position": center.tolist()}],
    }


@given(
    data=st.data(),
    affine=affines(),
    system=st.sampled_from(["LPS", "RAS"]),
    order=st.permutations(range(3)),
    degrees=st.floats(-0.4, 0.4),
)
def test_regions_of_slicer(tmp_path_factory, data, affine, system, order, degrees):
    folder = tmp_path_factory.mktemp("slicer")
    volume = make_volume(folder, affine)
    box = data.draw(boxes(volume.shape))
    region = make_region(volume, box, system, order, degrees)
    path = write(folder, {"markups": [{"type": "Fiducial"}, region]}, "left liver.mrk.json")
    assert load_boxes(path, volume) == [NamedBox(box.start, box.stop, "left liver")]
    path = write(folder, {"markups": [region, region | {"name": "spleen"}]}, "liver.json")
    assert [each.name for each in load_boxes(path, volume)] == ["liver", "spleen"]


def test_a_region_as_slicer_draws_it(tmp_path, volume):
    region = {"type": "ROI", "coordinateSystem": "LPS", "center": [-7, -16, 36], "size": [4, 4, 6],
              "orientation": [-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0]}  # fmt: skip
    path = write(tmp_path, {"markups": [region]}, "liver.mrk.json")
    assert load_boxes(path, volume) == [NamedBox((1, 1, 1), (3, 3, 5), "liver")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"orientation": turned((0, 2, 0)).ravel().tolist()},
            "turned against the grid of head by more than 1°",
        ),
        ({"orientation": [0] * 9}, "turned against the grid"),
        ({"orientation": [1, 0, 0]}, "no orientation of nine"),
        ({"orientation": ["a"] * 9}, "'a' as orientation"),
        ({"coordinateSystem": "IJK"}, "save it in LPS or RAS"),
        ({"coordinateUnits": "um"}, "and in mm"),
        ({"roiType": "Sphere"}, "draw a box"),
        ({"center": None}, "no center of three numbers"),
        ({"size": [1, 1, float("inf")]}, "inf as size"),
        ({"size": [4, 0, 6]}, "zero size"),
        ({"center": [500, 0, 0]}, "outside head"),
    ],
)
def test_regions_that_cannot_be_used(tmp_path, volume, change, reason):
    region = {"type": "ROI", "center": [-7, -16, 36], "size": [4, 4, 6]} | change
    with pytest.raises(InputError, match=reason) as refusal:
        load_boxes(write(tmp_path, {"markups": [region]}, "liver.mrk.json"), volume)
    assert str(refusal.value).startswith(f"region 1 of {tmp_path}")


@given(st.binary(max_size=300), st.sampled_from(["a.csv", "a.json", "a.mrk.json"]))
def test_any_bytes_are_refused_in_a_sentence(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("noise") / name
    path.write_bytes(content)
    with pytest.raises(InputError):
        load_boxes(path, volume_from_array(np.zeros((2, 2, 2))))
