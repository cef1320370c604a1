import csv
import json
import os
import re
import shutil
import subprocess
import sys
import weakref
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from command_line import make_runner
from phantoms import TABLE, fix_precision, make_case, make_image, make_truth, short_training
from random_encoders import make_encoder

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.cam import ClassMap
from napari_sparseseg.checkpoint import save_model
from napari_sparseseg.cli_cam import CAUTION
from napari_sparseseg.cli_cam_input import choose_classes, find_voxel, name_targets
from napari_sparseseg.encoder_checkpoint import save_encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import WorkDone, finish
from napari_sparseseg.settings import (
    CAM_METHODS,
    CamConfig,
    ClassifierConfig,
    CrfConfig,
    NetworkConfig,
    SeedConfig,
)
from napari_sparseseg.training import train_network
from napari_sparseseg.volume import (
    load_labels,
    load_volume,
    placed_box,
    save_map,
    volume_from_array,
)

DATA = Path(__file__).parents[2] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the real volumes of ../shared/data are not here")
FAST = ["--classifier-steps", "4", "--device", "cpu"]
NAMES = {1: "ball", 2: "cube"}


@pytest.fixture(autouse=True)
def _fixed_precision(monkeypatch):
    fix_precision(monkeypatch)


@pytest.fixture
def run(monkeypatch, capsys):
    return make_runner(monkeypatch, capsys, "cam")


def ranges(truth, names, volume="", axes=(0, 1, 2)):
    """Return rows of a CSV that tell in which slices of each orientation the classes of a truth are."""
    rows = []
    for value, name in names.items():
        where = np.argwhere(truth == value)
        for axis in axes:
            first, last = where[:, axis].min(), where[:, axis].max()
            rows.append([volume, name, "", "yes", "zyx"[axis], first, last])
    return rows


def write_table(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["volume", "class", "value", "present", "axis", "first", "last"], *rows])


@pytest.fixture
def files(tmp_path):
    """An image, and in which of its slices its classes are."""
    truth = make_truth()
    volume = volume_from_array(make_image(truth), (2.0, 1.0, 1.0))
    save_map(tmp_path / "image.nii.gz", volume.data[0], volume)
    stored = load_volume(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(stored.data, volume.data)  # counted in the file as in memory
    write_table(tmp_path / "labels.csv", ranges(truth, NAMES))
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a segmentation network that has hardly learnt."""
    folder = tmp_path_factory.mktemp("model")
    case, _ = make_case()
    with pytest.MonkeyPatch.context() as patch:
        fix_precision(patch)
        save_model(folder, finish(train_network([case], TABLE, short_training(steps=20))).model)
    return folder


def usual(files, *more, image="image.nii.gz", out="maps"):
    return [files / image, "--image-labels", files / "labels.csv", "--out", files / out, *FAST, *more]


def read_map(path, volume):
    values = load_volume(path).data[0]
    assert values.shape == volume.shape
    assert values.min() >= 0
    assert values.max() == pytest.approx(1)
    return values


@real
def test_a_real_volume_becomes_maps_and_seeds(tmp_path, run):
    image = DATA / "hippocampus_mr" / "images" / "hippocampus_001.nii.gz"
    volume = load_volume(image)
    truth = load_labels(DATA / "hippocampus_mr" / "labels" / image.name, volume)
    names = {1: "anterior", 2: "posterior"}
    rows = []
    for value, name in names.items():
        where = np.argwhere(truth == value)
        for axis, start, stop in zip(range(3), where.min(0), where.max(0) + 1, strict=True):
            ends = np.tile(np.array(volume.shape) / 2, (2, 1))
            ends[:, axis] = start, stop
            low, high = placed_box(volume, *ends)[:, 2 - axis]
            rows.append([image.name, name, "", "yes", "zyx"[axis], low, high])
    with (tmp_path / "ranges.csv").open("w", newline="") as file:
        header = ["volume", "class", "value", "present", "axis", "first_mm", "last_mm"]
        csv.writer(file).writerows([header, *rows])
    out = tmp_path / "maps"
    words = [image, "--image-labels", tmp_path / "ranges.csv", "--out", out, "--seeds", "--json"]
    code, answer, errors = run(*words, "--classifier-steps", 30, "--device", "cpu")
    assert code == 0
    assert CAUTION in errors
    report = json.loads(answer)
    assert report["classifier"]["within_volume"] is True
    assert report["classifier"]["auc"].keys() <= set(names.values())
    assert [row["class"] for row in report["maps"]] == list(names.values())
    for row in report["maps"]:
        read_map(row["map"], volume)
        assert 0 <= row["score"] <= 1
    seeds = load_labels(out / f"{volume.name}_seeds.nii.gz", volume)  # refuses another grid
    assert set(np.unique(seeds)) <= {0, 1, 2, 3}
    assert json.loads((out / "classes.json").read_text()) == {"2": "anterior", "3": "posterior"}
    for value in names:
        inside, found = np.argwhere(truth == value), np.argwhere(seeds == value + 1)
        assert (found >= inside.min(0)).all()
        assert (found <= inside.max(0)).all()


def test_the_report_in_words(files, run):
    code, out, errors = run(*usual(files, "--seeds", "--check"))
    assert code == 0
    assert errors.endswith(CAUTION + "\n")
    assert re.search(
        r"^The classifier, measured on slices of the same volumes, which is optimistic:$", out, re.M
    )
    assert len(re.findall(r"^(ball|cube): (balanced accuracy [01]\.\d{3}, AUC|not measured)", out, re.M)) == 2
    assert (
        len(
            re.findall(
                r"^Wrote \S+image_(ball|cube)_map\.nii\.gz: \1, \d+ % sure that it is there", out, re.M
            )
        )
        == 2
    )
    assert re.search(
        r"^Wrote \S+image_seeds\.nii\.gz: seeds, voxels of background \d+, ball \d+, cube", out, re.M
    )
    assert {path.name for path in (files / "maps").iterdir()} == {
        "image_ball_map.nii.gz", "image_cube_map.nii.gz", "image_seeds.nii.gz", "classes.json",
    }  # fmt: skip


def test_seeds_are_labels_that_a_network_learns_from(files, run):
    assert run(*usual(files, "--seeds"))[0] == 0
    volume = load_volume(files / "image.nii.gz")
    seeds = load_labels(files / "maps" / "image_seeds.nii.gz", volume)
    assert set(np.unique(seeds)) <= {0, 1, 2, 3}
    words = [files / "image.nii.gz", "--labels", files / "maps" / "image_seeds.nii.gz", "--steps", 2]
    words += ["--names", files / "maps" / "classes.json", "--out", files / "mask.nii.gz", "--device", "cpu"]
    assert run(*words, "--preview-weight", 0, command="segment")[0] == 0
    mask = load_labels(files / "mask.nii.gz", volume)
    assert set(np.unique(mask)) <= {0, 2, 3}


def test_a_class_of_the_value_of_background_gets_another_convention(files, run):
    rows = ranges(make_truth(), NAMES)
    write_table(files / "labels.csv", [[*row[:2], {"ball": 1, "cube": 5}[row[1]], *row[3:]] for row in rows])
    code, out, _ = run(*usual(files, "--seeds", "--json"))
    assert code == 0
    report = json.loads(out)
    assert report["seeds"][0]["unlabelled"] == 255
    seeds = load_labels(files / "maps" / "image_seeds.nii.gz", load_volume(files / "image.nii.gz"))
    assert set(np.unique(seeds)) <= {0, 1, 5, 255}
    assert (seeds == 0).sum() == report["seeds"][0]["voxels"]["background"]
    assert json.loads((files / "maps" / "classes.json").read_text()) == {"1": "ball", "5": "cube"}


def test_a_saved_classifier_gives_the_same_maps(files, run):
    code, out, _ = run(*usual(files, "--save-classifier", files / "kept", "--json"))
    assert code == 0
    assert json.loads(out)["classifier"]["folder"] == str(files / "kept")
    before = {path.name: load_volume(path).data for path in (files / "maps").iterdir()}
    shutil.rmtree(files / "maps")
    code, out, _ = run(
        files / "image.nii.gz",
        "--classifier",
        files / "kept",
        "--out",
        files / "maps",
        "--device",
        "cpu",
        "--json",
    )
    assert code == 0
    assert "classifier" not in json.loads(out)
    assert {path.name for path in (files / "maps").iterdir()} == before.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(load_volume(files / "maps" / name).data, values)


def test_several_volumes_are_learnt_from_and_more_are_mapped(files, run):
    rows = []
    for number in range(3):
        truth = make_truth(shift=number - 1)
        volume = volume_from_array(make_image(truth, number), (2.0, 1.0, 1.0))
        save_map(files / f"v{number}.nii.gz", volume.data[0], volume)
        rows += ranges(truth, NAMES, f"v{number}.nii.gz") if number < 2 else []
    write_table(files / "labels.csv", rows)
    volumes = [files / f"v{number}.nii.gz" for number in range(3)]
    code, out, errors = run(*volumes[1:], *usual(files, "--class", "Ball", "--json", image="v0.nii.gz"))
    assert code == 0
    assert "No image-level label is of v2, which is mapped but not learnt from." in errors
    maps = json.loads(out)["maps"]
    assert [(row["volume"], row["class"]) for row in maps] == [(f"v{n}", "ball") for n in (1, 2, 0)]
    assert {path.name for path in (files / "maps").iterdir()} == {f"v{n}_ball_map.nii.gz" for n in range(3)}


def test_a_classifier_starts_from_an_encoder(files, run):
    save_encoder(files / "encoder", make_encoder(spacing=(2.0, 1.0, 1.0)))
    code, _, errors = run(*usual(files, "--encoder", files / "encoder"))
    assert code == 0, errors
    assert "The encoder (masked_autoencoder, 3 volumes, 2,000 steps) was taken over: " in errors


@pytest.mark.parametrize("place", [[], ["--at", "6,6,9", "--units", "voxel"], ["--at", "6,6,18"]])
def test_a_segmentation_network_is_asked(files, run, model, place):
    words = [files / "image.nii.gz", "--model", model, "--out", files / "maps", "--class", "1003", *place]
    code, out, errors = run(*words, "--device", "cpu", "--json", "--check")
    assert code == 0
    assert CAUTION in errors
    (row,) = json.loads(out)["maps"]
    assert row["class"] == "ball"
    assert row["check"].keys() == {"similarity", "depends", "text"}
    if not row["is_empty"]:
        read_map(row["map"], load_volume(files / "image.nii.gz"))


def test_a_place_in_mm_and_one_in_voxels_are_the_same(files, run, model):
    maps = []
    for place in (["--at", "6,5,18"], ["--at", "6,5,9", "--units", "voxel"]):
        words = [files / "image.nii.gz", "--model", model, "--out", files / "maps", "--class", "cube"]
        assert run(*words, *place, "--device", "cpu")[0] == 0
        maps.append(load_volume(files / "maps" / "image_cube_map.nii.gz").data)
    np.testing.assert_array_equal(*maps)


@real
@pytest.mark.parametrize("name", ["image_ASR.nii.gz", "image_PIR.nii.gz", "oblique_aniso.nii.gz"])
def test_a_place_is_found_on_any_grid(name):
    volume = load_volume(DATA / "odd_files" / name)
    for voxel in ((0, 0, 0), (3, 5, 2), tuple(length - 1 for length in volume.shape)):
        z, y, x = (volume.affine @ [*voxel, 1])[:3]
        assert find_voxel(f"{x},{y},{z}", "mm", volume) == voxel
        corner = placed_box(volume, voxel, np.add(voxel, 1), "voxel").min(axis=0)
        assert find_voxel(",".join(str(round(c)) for c in corner), "voxel", volume) == voxel


def test_a_class_that_could_not_be_learnt_is_told_and_left_out(files, run):
    write_table(
        files / "labels.csv", [*ranges(make_truth(), {1: "ball"}), ["", "cube", "", "yes", "", "", ""]]
    )
    words = [files / "image.nii.gz", "--image-labels", files / "labels.csv", "--out", files / "maps", *FAST]
    code, answer, errors = run(*words, "--json")
    assert code == 0
    assert "cube is said to be absent nowhere" in errors
    assert [row["class"] for row in json.loads(answer)["maps"]] == ["ball"]
    code, _, errors = run(*words, "--class", "cube")
    assert code == 2
    assert "has not learnt cube" in errors


def test_a_map_of_nothing_is_told_and_other_volumes_go_on(files, run, model, monkeypatch):
    shutil.copy(files / "image.nii.gz", files / "second.nii.gz")
    asked = []

    def map_first_as_nothing(subject, image, spacing, label, *_, **__):
        yield WorkDone(0.5, "Mapping")
        asked.append(label)
        values = np.zeros(image.shape[1:], np.float32)
        if len(asked) > 2:
            values[4, 4, 4 + label] = 1
        return ClassMap(values, 0.25, float(values.max()))

    monkeypatch.setattr("napari_sparseseg.cam.map_class", map_first_as_nothing)
    words = [files / "image.nii.gz", files / "second.nii.gz", "--model", model, "--out", files / "maps"]
    code, out, _ = run(*words, "--seeds", "--json")
    assert code == 2
    report = json.loads(out)
    assert [row["is_empty"] for row in report["maps"]] == [True, True, False, False]
    assert "zero everywhere" in report["seeds"][0]["error"]
    voxels = report["seeds"][1]["voxels"]
    assert 0 < voxels.pop("background") <= 18**3 - 2
    assert voxels == {"ball": 1, "cube": 1}
    asked.clear()
    code, out, _ = run(*words, "--seeds")
    assert code == 2
    assert "ball, 25 % sure that it is there; the map is 0 everywhere" in out
    assert "image_seeds.nii.gz was not written: " in out


@pytest.mark.parametrize("wanted", [[], ["--seeds"]])
def test_maps_are_kept_only_for_seeds(files, run, model, monkeypatch, wanted):
    made, alive = [], []

    def map_anything(subject, image, spacing, label, *_, **__):
        yield WorkDone(0.5, "Mapping")
        alive.append(sum(values() is not None for values in made))
        values = np.zeros(image.shape[1:], np.float32)
        values[label] = 1
        made.append(weakref.ref(values))
        return ClassMap(values, 0.25, 1.0)

    monkeypatch.setattr("napari_sparseseg.cam.map_class", map_anything)
    code, _, _ = run(files / "image.nii.gz", "--model", model, "--out", files / "maps", *wanted)
    assert code == 0
    assert alive == ([0, 1] if wanted else [0, 0])


def test_file_names_of_odd_classes(tmp_path):
    table = ClassTable.from_values(
        [2, 3, 4, 5, 6], {2: "left/kidney", 3: "left kidney", 4: "Ö x", 5: "..", 6: "a" * 300}
    )
    chosen = choose_classes([], table)
    (targets,) = name_targets(["in/ct.nii.gz"], table, chosen, tmp_path, [], seeds=True)
    assert [path.name for path in targets.maps.values()] == [
        "ct_left_kidney_2_map.nii.gz", "ct_left_kidney_3_map.nii.gz", "ct_Ö_x_map.nii.gz",
        "ct_class_5_map.nii.gz", f"ct_{'a' * 60}_map.nii.gz",
    ]  # fmt: skip
    assert targets.seeds == tmp_path / "ct_seeds.nii.gz"


def test_classes_by_name_and_value():
    table = ClassTable.from_values([2, 7], {2: "liver", 7: "2"})
    assert choose_classes(["LIVER "], table) == {2: "liver"}
    assert choose_classes(["7", "liver"], table) == {3: "2", 2: "liver"}
    assert choose_classes(["2"], table) == {3: "2"}  # a name counts before a value
    with pytest.raises(InputError, match="--class heart is none of the classes; choose of liver, 2"):
        choose_classes(["heart"], table)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["image.nii.gz"], "nothing to learn from"),
        (["image.nii.gz", "--image-labels", "none.csv"], "none.csv"),
        (["image.nii.gz", "--image-labels", "image.nii.gz"], "image.nii.gz"),
        (["image.nii.gz", "--image-labels", "other.csv"], "no image-level label of"),
        (["none.nii.gz", "--image-labels", "labels.csv"], "none.nii.gz"),
        (["image.nii.gz", "copy.nii.gz", "--image-labels", "labels.csv"], "names no volume, and there are 2"),
        (["image.nii.gz", "--image-labels", "labels.csv", "--class", "heart"], "choose of ball, cube"),
        (
            ["image.nii.gz", "more/image.nii.gz", "--image-labels", "named.csv"],
            "of the same name; rename one",
        ),
        (["image.nii.gz", "--image-labels", "labels.csv", "--out", "image.nii.gz"], "does not take files"),
        (
            ["image.nii.gz", "--image-labels", "labels.csv", "--save-classifier", "image.nii.gz"],
            "does not take",
        ),
        (["image.nii.gz", "--classifier", "model"], "model"),
        (["image.nii.gz", "--model", "model"], "model"),
        (["image.nii.gz", "--classifier", "network"], "segmentation network; give it as --model"),
        (["image.nii.gz", "--model", "answers"], "a classifier; give it as --classifier"),
        (["image.nii.gz", "--model", "model", "--classifier", "model"], "ask one of the two"),
        (["image.nii.gz", "--model", "model", "--save-classifier", "kept"], "train none"),
        (["image.nii.gz", "--model", "model", "--encoder", "kept"], "train none; leave it out"),
        (["image.nii.gz", "--image-labels", "labels.csv", "--encoder", "kept"], "holds no encoder"),
        (["image.nii.gz", "copy.nii.gz", "--image-labels", "named.csv", "--at", "1,2,3"], "give one volume"),
        (["image.nii.gz", "--image-labels", "labels.csv", "--at", "1,2"], "not three numbers"),
        (["image.nii.gz", "--image-labels", "labels.csv", "--at", "1,2,nan"], "lies outside image"),
        (["image.nii.gz", "--image-labels", "labels.csv", "--at", "900,2,2"], "lies outside image"),
        (["image.nii.gz", "--model", "model", "--seeds", "--class", "ball"], "leave --class out"),
        (
            ["image.nii.gz", "--image-labels", "labels.csv", "--seeds", "--object-threshold", "0.05"],
            "must be larger",
        ),
        (["image.nii.gz", "--image-labels", "absent.csv"], "ball"),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(files, run, words, sentence):
    truth = make_truth()
    shutil.copy(files / "image.nii.gz", files / "copy.nii.gz")
    for folder in ("more", "model", "maps", "network", "answers"):
        (files / folder).mkdir()
    (files / "network" / "model.json").touch()
    (files / "answers" / "classifier.json").touch()
    shutil.copy(files / "image.nii.gz", files / "more" / "image.nii.gz")
    write_table(files / "other.csv", ranges(truth, NAMES, "other"))
    write_table(files / "named.csv", ranges(truth, NAMES, "image"))
    write_table(files / "absent.csv", [["", "ball", "", "no", "", "", ""]])
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    known = {
        *(path.relative_to(files).as_posix() for path in files.rglob("*")),
        "none.csv",
        "none.nii.gz",
        "kept",
    }
    words = [files / word if word in known else word for word in words]
    words += [] if "--out" in words else ["--out", files / "maps"]
    code, out, errors = run(*words, "--device", "cpu", "--classifier-steps", 2)
    assert code == 2
    assert out == ""
    assert sentence in errors
    assert errors.count("\n") == 1
    assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before


def test_nothing_that_is_read_is_overwritten(files, run):
    image = files / "maps" / "a_ball_map.nii.gz"
    volume = load_volume(files / "image.nii.gz")
    save_map(image, volume.data[0], volume)
    shutil.copy(files / "image.nii.gz", files / "a.nii.gz")
    write_table(files / "labels.csv", ranges(make_truth(), NAMES, "a"))
    before = image.read_bytes()
    code, _, errors = run(image, *usual(files, image="a.nii.gz"))
    assert code == 2
    assert "is an input and would be replaced" in errors
    assert image.read_bytes() == before


@pytest.mark.parametrize("wrong", [["--method", "magic"], ["--units", "inch"], ["--level", "9"]])
def test_what_is_no_value_of_a_flag_is_told(files, run, wrong):
    code, out, errors = run(*usual(files), *wrong)
    assert code == 2
    assert out == ""
    assert wrong[0] in errors
    assert not (files / "maps").exists()


def test_help_names_every_flag_and_loads_nothing_slow():
    code = (
        "import sys; from napari_sparseseg.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'monai', 'sklearn', 'scipy', 'nibabel'} & set(sys.modules)))"
    )
    plain = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "PYTHONUTF8": "1"}
    words = [sys.executable, "-c", code, "cam", "--help"]
    answer = subprocess.run(words, capture_output=True, text=True, check=True, env=plain)
    assert answer.stdout.strip().endswith("[]")
    flags = {"image_labels", "out", "class", "classifier", "save_classifier", "model", "at", "units", "seeds"}
    flags |= {"check", "names", "frame", "spacing", "json"}
    for settings_class in (ClassifierConfig, CamConfig, SeedConfig, CrfConfig, NetworkConfig):
        flags |= {entry.name for entry in fields(settings_class)} - {"point_mm"}
    for flag in flags:
        assert f"--{flag.replace('_', '-')} " in answer.stdout
    for name in CAM_METHODS:
        assert name in answer.stdout
