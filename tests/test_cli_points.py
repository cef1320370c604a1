import json

import numpy as np
import pytest
from command_line import make_runner
from phantoms import make_image, make_truth

from napari_sparseseg.annotation import ClassTable, source_code
from napari_sparseseg.box_files import NamedBox
from napari_sparseseg.cli_points import match_points
from napari_sparseseg.cli_progress import ProgressDisplay
from napari_sparseseg.cli_weak import read_cases
from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import load_labels, load_volume, save_labels, save_map, volume_from_array

FAST = ["--steps", "6", "--patch-voxels", "2000", "--device", "cpu", "--preview-weight", "0"]
PLACES = {0: [(1, 1, 1), (16, 2, 16)], 1: [(9, 6, 6)], 2: [(9, 13, 13)]}  # (z, y, x) by channel


@pytest.fixture
def files(tmp_path):
    """An image, labels of background alone, and points."""
    truth = make_truth().astype(np.int32)
    volume = volume_from_array(make_image(truth), (1.0, 1.0, 1.0))
    for name in ("image", "other"):
        save_map(tmp_path / f"{name}.nii.gz", volume.data[0], volume)
    sparse = np.zeros_like(truth)
    sparse[9] = np.where(truth[9] == 0, 1, 0)
    save_labels(tmp_path / "sparse.nii.gz", sparse, volume)
    seeds = np.array([1, 7, 3])[truth]
    save_labels(tmp_path / "seeds.nii.gz", seeds, volume)
    write_points(tmp_path / "points.csv", {0: "background,", 1: "ball,7", 2: "cube,"})
    write_points(tmp_path / "objects.csv", {1: "ball,7", 2: "cube,"})
    return tmp_path


def write_points(path, classes, volume="image.nii.gz"):
    rows = [
        f"{volume},{words},{x},{y},{z},voxel"
        for channel, words in classes.items()
        for z, y, x in PLACES[channel]
    ]
    path.write_text("\n".join(["volume,class,value,x,y,z,units", *rows]) + "\n")


@pytest.fixture
def run(monkeypatch, capsys):
    return make_runner(monkeypatch, capsys)


def read(files, *, strokes=None, seeds=None, points="points.csv", **options):
    image = str(files / "image.nii.gz")
    given = [[(image, files / name)] if name else [] for name in (strokes, seeds, points)]
    _, _, [case], table = read_cases(*given, ProgressDisplay(), **options)
    return case, table


def test_points_alone_complete_a_volume(files, run):
    mask = files / "mask.nii.gz"
    words = ["segment", files / "image.nii.gz", "--points", files / "points.csv", "--out", mask, "--json"]
    code, out, errors = run(*words, *FAST, "--point-mm", 2)
    assert code == 0, errors
    assert json.loads(out)["volumes_ml"].keys() == {"cube", "ball"}
    made = load_labels(mask, load_volume(files / "image.nii.gz"))
    for channel, value in ((0, 0), (1, 7), (2, 2)):
        assert all(made[place] == value for place in PLACES[channel])


def test_strokes_win_over_points_and_points_over_seeds(files):
    whole, table = read(files, strokes="sparse.nii.gz", seeds="seeds.nii.gz", point_mm=4.0)
    assert table.names == ("background", "cube", "class 3", "ball")
    sources = {name: whole.sources == source_code(name) for name in ("stroke", "point", "cam")}
    volume = load_volume(files / "image.nii.gz")
    sparse = load_labels(files / "sparse.nii.gz", volume)
    np.testing.assert_array_equal(sources["stroke"], sparse > 0)
    alone, _ = read(files, point_mm=4.0)
    np.testing.assert_array_equal(sources["point"], (alone.annotation > 0) & (sparse == 0))
    np.testing.assert_array_equal(sources["cam"], (alone.annotation == 0) & (sparse == 0))
    assert (whole.annotation[sparse == 1] == 1).all()


def test_a_point_is_a_ball_of_its_radius(files):
    case, table = read(files, point_mm=2.0)
    assert table.mask_values == (0, 2, 7)
    assert table.names == ("background", "cube", "ball")
    z, y, x = np.indices(case.annotation.shape)
    for channel, label in ((0, 1), (1, 3), (2, 2)):
        inside = [(z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 <= 4 for a, b, c in PLACES[channel]]
        np.testing.assert_array_equal(case.annotation == label, np.any(inside, axis=0))
    small, _ = read(files, point_mm=0.1)
    assert (small.annotation > 0).sum() == 4


def test_labels_of_background_alone_go_with_points_of_objects(files, run):
    words = ["segment", files / "image.nii.gz", "--out", files / "mask.nii.gz", *FAST]
    given = ["--labels", files / "sparse.nii.gz", "--points", files / "objects.csv"]
    code, _, errors = run(*words, *given)
    assert code == 0, errors


def test_train_takes_points_of_some_volumes(files, run, monkeypatch):
    from napari_sparseseg import training

    calls, plain = [], training.train_network

    def record(*words, **options):
        calls.append(words)
        return plain(*words, **options)

    monkeypatch.setattr(training, "train_network", record)
    image, other = files / "image.nii.gz", files / "other.nii.gz"
    code, _, errors = run(
        "train", "--seeds", f"{other}={files / 'seeds.nii.gz'}",
        "--points", f"{image}={files / 'points.csv'}", "--out", files / "model", *FAST,
    )  # fmt: skip
    assert code == 0, errors
    [(cases, table, *_)] = calls
    assert table.mask_values[1:] == (2, 3, 7)
    assert [set(np.unique(case.sources)) - {0} for case in cases] == [{source_code("cam")}, {8}]
    assert source_code("point") == 8


def point(name, value=None):
    return NamedBox((0, 0, 0), (1, 1, 1), name, value)


@pytest.mark.parametrize(
    ("points", "painted", "unlabelled", "values", "labels"),
    [
        ([point("Background"), point("", 5)], (), None, (0, 5), [1, 2]),
        ([point("", 1), point("", 0), point("", 2)], (), None, (0, 2), [1, 1, 2]),
        ([point("", 1), point("", 0)], (), 255, (0, 1), [2, 1]),
        ([point("liver", 1), point("", 1), point("background")], (), None, (0, 2), [2, 2, 1]),
        ([point("liver"), point("spleen", 3)], (2, 3), None, (0, 2, 3, 4), [4, 3]),
        ([point("liver"), point("background", 4)], (1,), 255, (0, 1, 2), [3, 1]),
    ],
)
def test_which_class_a_point_is_of(points, painted, unlabelled, values, labels):
    table, found = match_points({"ct": points}, painted, unlabelled, None, None, ProgressDisplay())
    assert table.mask_values == values
    assert found == {"ct": labels}


def test_names_and_a_networks_classes_hold(tmp_path):
    (tmp_path / "names.json").write_text('{"1": "background", "9": "liver"}')
    words = ({"ct": [point("LIVER"), point("background")]}, (), None, tmp_path / "names.json")
    table, found = match_points(*words, None, ProgressDisplay())
    assert found == {"ct": [2, 1]}
    assert table.mask_values == (0, 9)
    known = ClassTable.from_values([4, 6], {4: "spleen", 6: "liver"})
    assert match_points(*words, known, ProgressDisplay()) == (known, {"ct": [3, 1]})
    with pytest.raises(InputError, match="points of heart, which is not among spleen, liver"):
        match_points({"ct": [point("heart")]}, (), None, None, known, ProgressDisplay())


@pytest.mark.parametrize(
    ("command", "words", "sentence"),
    [
        ("segment", ["--points", "none.csv"], "none.csv does not exist"),
        ("segment", ["--points", "image.nii.gz"], "UTF-8"),
        ("segment", ["--points", "foreign.csv"], "there is no point of"),
        ("segment", ["--points", "background.csv"], "the points are all of background"),
        ("segment", ["--points", "objects.csv"], "the labels hold no background"),
        ("segment", ["--points", "points.csv", "--out", "points.csv"], "points.csv"),
        ("train", ["--points", "points.csv"], "is not IMAGE=POINTS"),
        ("train", ["--points", "image.nii.gz=points.csv"] * 2, "--points names a volume twice"),
    ],
)
def test_mistakes_end_with_one_sentence_and_write_nothing(files, run, monkeypatch, command, words, sentence):
    write_points(files / "foreign.csv", {0: "background,", 1: "ball,"}, "elsewhere.nii.gz")
    write_points(files / "background.csv", {0: "background,"})
    monkeypatch.chdir(files)
    before = {path: path.read_bytes() for path in files.iterdir()}
    words = [*(["image.nii.gz"] if command == "segment" else []), *words]
    words += [] if "--out" in words else ["--out", "mask.nii.gz" if command == "segment" else "model"]
    code, out, errors = run(command, *words, *FAST)
    assert code == 2
    assert out == ""
    assert sentence in errors
    assert errors.count("\n") == 1
    assert {path: path.read_bytes() for path in files.iterdir() if path.is_file()} == before


def test_names_that_contradict_the_convention_are_told(files, run):
    (files / "names.json").write_text('{"1": "ball"}')
    words = ["segment", files / "image.nii.gz", "--labels", files / "seeds.nii.gz", *FAST]
    code, _, errors = run(*words, "--names", files / "names.json", "--out", files / "mask.nii.gz")
    assert code == 2
    assert "says that 1 is ball, but in" in errors
    assert not (files / "mask.nii.gz").exists()
