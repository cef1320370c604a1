import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.errors import InputError
from napari_sparseseg.point_files import find_points, find_voxel, load_points, place_points
from napari_sparseseg.volume import load_volume, placed_box, save_map, volume_from_array

SHAPE = (6, 7, 8)


@pytest.fixture
def volume(tmp_path):
    made = volume_from_array(np.zeros((1, *SHAPE), np.float32), (2.0, 1.0, 0.5))
    save_map(tmp_path / "ct.nii.gz", made.data[0], made)
    return load_volume(tmp_path / "ct.nii.gz")


def load(tmp_path, text):
    (tmp_path / "points.csv").write_text(text, encoding="utf-8")
    return load_points(tmp_path / "points.csv")


@given(st.tuples(*(st.integers(0, size - 1) for size in SHAPE)), st.sampled_from(["mm", "voxel"]))
def test_the_middle_of_each_voxel_is_found_again(voxel, units):
    volume = volume_from_array(np.zeros((1, *SHAPE), np.float32), (2.0, 1.0, 0.5))
    corners = placed_box(volume, voxel, np.add(voxel, 1), units)
    place = corners.mean(axis=0) if units == "mm" else corners.min(axis=0)
    assert find_voxel(place, units, volume) == voxel


@pytest.mark.parametrize("place", [(-9, 0, 0), (0, 0, 99), (float("nan"), 0, 0), (1e300, 0, 0)])
@pytest.mark.parametrize("units", ["mm", "voxel"])
def test_what_lies_outside_is_nowhere(volume, place, units):
    assert find_voxel(place, units, volume) is None


def test_rows_of_one_volume(tmp_path, volume):
    points = load(
        tmp_path,
        "volume;class;value;x;y;z;units\n"
        "ct.nii.gz;liver;5;1,5;3;4;mm\n"
        "other;liver;;900;0;0;mm\n"
        ";background;;1;2;3;voxels\n"
        "data/ct.nii.gz;;0;0;0;0;voxel\n",
    )
    found = find_points(points, tmp_path / "data" / "ct.nii.gz")
    assert [(point.name, point.value, point.units) for point in found] == [
        ("liver", 5, "mm"), ("background", None, "voxel"), ("", 0, "voxel"),
    ]  # fmt: skip
    first, *_ = place_points(found, volume)
    assert first.start == find_voxel((1.5, 3, 4), "mm", volume)
    assert first.stop == tuple(place + 1 for place in first.start)
    with pytest.raises(InputError, match=r"no point of none\.nii\.gz, only of other"):
        find_points([point for point in points if point.volume == "other"], "none.nii.gz")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x,y,z\n1,2,3\n", "no column class or value"),
        ("class,x,y\nliver,1,2\n", "no column z"),
        ("class,x,y,z\n", "holds no points"),
        ("class,x,y,z\nliver,1,2,\n", "nothing as z"),
        ("class,x,y,z\nliver,1,2,nan\n", "'nan' as z"),
        ("class,value,x,y,z\n,,1,2,3\n", "neither a class nor a value"),
        ("value,x,y,z\n-1,1,2,3\n", "has the value -1"),
        ("value,x,y,z\n2.5,1,2,3\n", "has the value 2.5"),
        ("class,x,y,z,units\nliver,1,2,3,inch\n", "'inch'"),
    ],
)
def test_mistakes_are_told(tmp_path, text, sentence):
    with pytest.raises(InputError, match=sentence):
        load(tmp_path, text)


def test_a_point_outside_is_told_with_its_line(tmp_path, volume):
    points = load(tmp_path, "class,x,y,z,units\nliver,1,1,1,voxel\nliver,99,1,1,voxel\n")
    with pytest.raises(
        InputError, match=r"line 3 of .*points.csv has a point \(99, 1, 1\) voxel, which lies"
    ):
        place_points(points, volume)
