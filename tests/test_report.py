import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from napari_sparseseg.annotation import ClassTable, annotation_from_file
from napari_sparseseg.errors import InputError
from napari_sparseseg.report import draw_comparison
from napari_sparseseg.sample_data import generate_case
from napari_sparseseg.sparsification import sparsify_labels
from napari_sparseseg.volume import volume_from_array


@pytest.fixture(scope="module")
def case():
    volume, truth, table = generate_case(2, shape=(12, 40, 48), spacing=(4.0, 1.0, 1.5), classes=2)
    sparse = sparsify_labels(truth, 3, spacing=volume.spacing)
    return volume, annotation_from_file(sparse, table, 255), truth, table


def colored(picture, color, tolerance=0.02):
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return (np.abs(picture[..., :3] - rgb) < tolerance).all(axis=-1)


def test_picture_shows_every_class_and_a_column_for_each_stage(case, tmp_path):
    volume, annotation, truth, table = case
    draw_comparison(tmp_path / "four.png", volume, annotation, truth, truth, table)
    draw_comparison(tmp_path / "three.png", volume, annotation, truth, None, table)
    four, three = imread(tmp_path / "four.png"), imread(tmp_path / "three.png")
    assert four.shape[1] / three.shape[1] == pytest.approx(4 / 3, rel=0.02)
    for entry in table.classes:
        assert colored(four, entry.color).sum() > 100, f"the legend shows {entry.name}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["four.png", "three.png"]


def test_pixels_have_their_true_proportions(tmp_path):
    # A cube of 24 mm, whatever its voxels, is a square in all three rows.
    shape, spacing = (12, 48, 32), (4.0, 1.0, 1.5)
    mask = np.zeros(shape, np.int32)
    mask[3:9, 12:36, 8:24] = 1
    table = ClassTable.from_values([1])
    volume = volume_from_array(np.zeros(shape, np.float32), spacing)
    draw_comparison(tmp_path / "cube.png", volume, np.zeros(shape, np.uint8), mask, None, table)
    picture = imread(tmp_path / "cube.png")
    blue = np.array([0x56, 0xB4, 0xE9]) / 255 * 0.5  # half of the color over black
    inside = (np.abs(picture[..., :3] - blue) < 0.02).all(axis=-1)
    rows = np.flatnonzero(inside.sum(axis=1) > 20)
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 5) + 1)
    assert len(runs) == 3
    for run in runs:
        columns = np.flatnonzero(inside[run[len(run) // 2]])
        assert np.ptp(columns) == pytest.approx(np.ptp(run), rel=0.06)


@pytest.mark.parametrize(
    ("position", "row", "half"),
    [
        ((slice(8, 12), 0, 0), 1, "upper"),
        ((0, slice(0, 4), 0), 0, "upper"),
        ((0, 0, slice(8, 12)), 0, "right"),
    ],
)
def test_display_is_radiological(tmp_path, position, row, half):
    # Superior and anterior are up, the patient's left is on the right.
    shape = (12, 12, 12)
    image = np.zeros(shape, np.float32)
    image[tuple(slice(None) if part == 0 else part for part in position)] = 1
    everywhere = np.ones(shape, np.int32)
    empty = ClassTable.from_values([2])
    volume = volume_from_array(image, (1.0, 1.0, 1.0))
    draw_comparison(tmp_path / "x.png", volume, everywhere.astype(np.uint8), everywhere * 0, None, empty)
    picture = imread(tmp_path / "x.png")[..., :3].mean(axis=-1)
    height, width = picture.shape
    top = int(0.35 * 130)
    panel_side = (height - int(0.75 * 130)) // 3
    panel = picture[top + row * panel_side : top + (row + 1) * panel_side, width // 3 : 2 * width // 3]
    bright = np.argwhere(panel > 0.97)
    centre = bright.mean(axis=0) / panel.shape
    assert centre[0] < 0.4 if half == "upper" else centre[1] > 0.6


@pytest.mark.parametrize("shape", [(1, 30, 30), (20, 1, 30), (3, 2, 2)])
def test_thin_volumes_are_drawn(tmp_path, shape):
    mask = np.ones(shape, np.int32)
    volume = volume_from_array(np.ones(shape, np.float32), (1.0, 1.0, 1.0))
    table = ClassTable.from_values([1])
    draw_comparison(tmp_path / "thin.png", volume, mask.astype(np.uint8), mask, mask, table)
    assert imread(tmp_path / "thin.png").size


def test_mistakes_are_told(case, tmp_path):
    volume, annotation, truth, table = case
    with pytest.raises(InputError, match="truth is"):
        draw_comparison(tmp_path / "x.png", volume, annotation, truth, truth[1:], table)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        draw_comparison(tmp_path / "file" / "x.png", volume, annotation, truth, truth, table)


def test_no_window_system_is_touched():
    code = "import sys, napari_sparseseg.report; print({'matplotlib', 'torch', 'qtpy'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
