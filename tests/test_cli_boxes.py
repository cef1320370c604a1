import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import nibabel
import numpy as np
import pytest
from command_line import make_runner
from phantoms import fix_precision, make_image, make_truth
from random_encoders import make_encoder

from napari_sparseseg.box_files import NamedBox, save_boxes
from napari_sparseseg.box_geometry import boxes_of_labels
from napari_sparseseg.encoder_checkpoint import save_encoder
from napari_sparseseg.settings import (
    BOX_METHODS,
    DENOISING,
    BoxConfig,
    CrfConfig,
    NetworkConfig,
    RecursionConfig,
)
from napari_sparseseg.volume import load_labels, load_volume, save_labels, save_map, volume_from_array

HIPPOCAMPUS = Path(__file__).parents[2] / "shared" / "data" / "hippocampus_mr"
real = pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason="the real volumes of ../shared/data are not here")
FAST = ["--round-steps", "20", "--device", "cpu"]
VALUES = np.array([0, 2, 7])


@pytest.fixture(autouse=True)
def _fixed_precision(monkeypatch):
    fix_precision(monkeypatch)


@pytest.fixture
def run(monkeypatch, capsys):
    return make_runner(monkeypatch, capsys, "boxes")


def write_boxes(path, truth, volume, names=("", "")):
    """Write the boxes of the classes of a truth; without names, by value."""
    boxes = boxes_of_labels(truth + 1)
    named = [
        NamedBox(box.start, box.stop, name, None if name else int(VALUES[box.label - 1]))
        for box, name in zip(boxes, names, strict=True)
    ]
    save_boxes(path, named, volume)


@pytest.fixture
def files(tmp_path):
    """An image, its truth, its boxes and strokes in the default convention."""
    truth = make_truth().astype(np.int32)
    volume = volume_from_array(make_image(truth), (2.0, 1.0, 1.0))
    sparse = np.zeros_like(truth)
    for index in (6, 8, 10, 12):
        sparse[index] = np.array([1, 2, 7])[truth[index]]
    save_map(tmp_path / "image.nii.gz", volume.data[0], volume)
    save_labels(tmp_path / "truth.nii.gz", VALUES[truth], volume)
    save_labels(tmp_path / "sparse.nii.gz", sparse, volume)
    write_boxes(tmp_path / "boxes.csv", truth, volume)
    return tmp_path


def usual(files, **changes):
    """Return the usual words; None leaves one out."""
    values = {"boxes": files / "boxes.csv", "out": files / "mask.nii.gz", **changes}
    words = [files / "image.nii.gz"]
    for name, value in values.items():
        words += [] if value is None else [f"--{name.replace('_', '-')}", value]
    return words


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@real
def test_a_real_volume_becomes_a_mask_round_by_round(tmp_path, run):
    image, truth = (HIPPOCAMPUS / kind / "hippocampus_001.nii.gz" for kind in ("images", "labels"))
    volume = load_volume(image)
    answer = load_labels(truth, volume)
    boxes, mask = tmp_path / "boxes.json", tmp_path / "mask.nii.gz"
    drawn = [
        NamedBox(box.start, box.stop, "", box.label - 1) for box in boxes_of_labels(answer + 1)
    ]  # as an annotator would
    save_boxes(boxes, drawn, volume)
    code, out, errors = run(
        image, "--boxes", boxes, "--method", "grabcut_plus", "--out", mask, "--truth", truth,
        "--rounds", 1, "--denoise", "class,outside", "--json", *FAST,
    )  # fmt: skip
    assert code == 0
    report = json.loads(out)
    assert [entry["round"] for entry in report["rounds"]] == [0, 1]
    assert "Before training: Dice 0." in errors
    assert "Round 1: Dice 0." in errors
    found = load_labels(mask, volume)  # refuses another grid
    assert set(np.unique(found)) == {0, 1, 2}
    for value in (1, 2):
        expected = report["rounds"][1]["dice"][f"class {value}"]
        assert dice(answer == value, found == value) == pytest.approx(expected)
        assert expected > 0.3
    assert report["kept_round"] == 1
    assert report["method"] == "grabcut_plus"
    assert sum(report["volumes_ml"].values()) == pytest.approx(
        (found > 0).sum() * np.prod(volume.spacing) / 1e3
    )


@real
@pytest.mark.parametrize("method", BOX_METHODS)
def test_every_method_makes_a_mask_of_a_real_volume(tmp_path, run, method):
    whole = load_volume(HIPPOCAMPUS / "images" / "hippocampus_001.nii.gz")
    answer = load_labels(HIPPOCAMPUS / "labels" / "hippocampus_001.nii.gz", whole) > 0
    (box,) = boxes_of_labels(answer + 1)
    z, y, x = (slice(max(0, a - 4), b + 4) for a, b in zip(box.start, box.stop, strict=True))
    crop = volume_from_array(whole.data[:, z, y, x], whole.spacing)
    image, truth, mask = (tmp_path / f"{name}.nii.gz" for name in ("image", "truth", "mask"))
    save_map(image, crop.data[0], crop)
    save_labels(truth, answer[z, y, x].astype(np.uint8), crop)
    (box,) = boxes_of_labels(answer[z, y, x] + 1)
    save_boxes(tmp_path / "boxes.csv", [NamedBox(box.start, box.stop, "hippocampus")], crop, units="voxel")
    words = ["--boxes", tmp_path / "boxes.csv", "--out", mask, "--truth", truth, "--runs", 6]
    code, out, _ = run(image, *words, "--method", method, "--json")
    assert code == 0
    report = json.loads(out)
    found = load_labels(mask, crop)
    assert set(np.unique(found)) == {0, 1}
    assert report["rounds"][0]["dice"] == {"hippocampus": pytest.approx(dice(answer[z, y, x], found == 1))}
    assert not found[~_inside(box, found.shape)].any()


def _inside(box, shape):
    mask = np.zeros(shape, bool)
    mask[box.region] = True
    return mask


def test_the_first_round_starts_from_an_encoder(files, run):
    save_encoder(files / "encoder", make_encoder(spacing=(2.0, 1.0, 1.0)))
    words = usual(files, rounds=2, encoder=files / "encoder")
    code, _, errors = run(*words, *FAST)
    assert code == 0, errors
    assert errors.count("was taken over: ") == 1
    save_encoder(files / "encoder", make_encoder(channels=2))
    code, _, errors = run(*words, *FAST)
    assert code == 2
    assert "takes 2 channels" in errors


def test_any_round_can_be_kept(files, run):
    volume, truth = load_volume(files / "image.nii.gz"), make_truth()
    for keep in ("0", "1", "last", "best"):
        words = usual(files, truth=files / "truth.nii.gz", method="box", rounds=2, keep=keep)
        code, out, _ = run(*words, "--round-steps", 8, "--device", "cpu", "--json")
        assert code == 0
        report = json.loads(out)
        dices = [np.mean(list(entry["dice"].values())) for entry in report["rounds"]]
        expected = {"last": 2, "best": int(np.argmax(dices))}.get(keep) if not keep.isdecimal() else int(keep)
        assert report["kept_round"] == expected
        mask = load_labels(files / "mask.nii.gz", volume)
        for value, dice_told in report["rounds"][expected]["dice"].items():
            channel = VALUES.tolist().index(int(value.split()[-1]))
            assert dice(truth == channel, mask == VALUES[channel]) == pytest.approx(dice_told)


def test_the_labels_of_a_round_are_written_too(files, run):
    labels = files / "labels.nii.gz"
    code, out, errors = run(*usual(files, method="box_inner", save_labels=labels))
    assert code == 0
    assert "without a network" in out
    assert "class 2: " in out
    assert "Before training: agreement with the boxes 0." in errors
    volume = load_volume(files / "image.nii.gz")
    stored, mask = load_labels(labels, volume), load_labels(files / "mask.nii.gz", volume)
    assert set(np.unique(stored)) == {0, 2, 7, 255}
    np.testing.assert_array_equal(stored[stored != 255], mask[stored != 255])
    assert not mask[stored == 255].any()
    assert (stored == 2).sum() == pytest.approx(0.2 * 8 * 9 * 8, rel=0.5)


def test_a_model_that_was_saved_predicts(files, run):
    model = files / "model"
    code, _, _ = run(*usual(files, rounds=1, save_model=model, denoise="none"), *FAST)
    assert code == 0
    assert {path.name for path in model.iterdir()} == {"model.json", "model.safetensors"}
    out = files / "masks"
    words = ["--model", model, "--out", out, files / "image.nii.gz", "--device", "cpu"]
    assert run(*words, command="predict")[0] == 0
    volume = load_volume(files / "image.nii.gz")
    mask, again = load_labels(files / "mask.nii.gz", volume), load_labels(out / "image.nii.gz", volume)
    assert set(np.unique(again)) <= {0, 2, 7}
    assert (mask == again).mean() > 0.9


@pytest.mark.parametrize("truth", [None, "truth.nii.gz"])
def test_sparse_labels_win_over_the_boxes(files, run, truth):
    words = usual(files, labels=files / "sparse.nii.gz", method="box", truth=truth and files / truth)
    code, out, _ = run(*words, "--rounds", 1, "--keep", "best", "--json", *FAST)
    assert code == 0
    volume = load_volume(files / "image.nii.gz")
    mask, sparse = (load_labels(files / f"{name}.nii.gz", volume) for name in ("mask", "sparse"))
    np.testing.assert_array_equal(mask[sparse > 0], np.where(sparse == 1, 0, sparse)[sparse > 0])
    rounds = json.loads(out)["rounds"]
    assert all(entry["dice"].keys() == {"class 2", "class 7"} for entry in rounds)
    assert rounds[0]["dice"]["class 2"] < 0.95  # the whole box is not the ball


def test_sparse_labels_far_from_the_boxes_and_of_other_classes_stay(files, run):
    shape = (8, 8, 60)
    volume = volume_from_array(np.random.default_rng(0).normal(size=shape).astype(np.float32), (1, 1, 1))
    sparse = np.zeros(shape, np.uint8)
    sparse[2, 3, 50:55], sparse[2, 3, 56:] = 9, 1
    save_map(files / "image.nii.gz", volume.data[0], volume)
    save_labels(files / "sparse.nii.gz", sparse, volume)
    save_boxes(files / "boxes.csv", [NamedBox((1, 1, 1), (6, 6, 6), "lesion")], volume)
    kept = files / "labels.nii.gz"
    words = usual(files, labels=files / "sparse.nii.gz", method="box", save_labels=kept, keep="best")
    code, _, errors = run(*words)
    assert code == 0
    assert "No label could be held out" in errors
    mask, labels = load_labels(files / "mask.nii.gz", volume), load_labels(kept, volume)
    for written in (mask, labels):
        assert (written[2, 3, 50:55] == 9).all()
        assert (written == 2).sum() == 5**3  # the lowest value that is free
        assert set(np.unique(written)) == {0, 2, 9}


def test_boxes_named_as_the_names_file_has_it_get_its_values(files, run):
    volume = load_volume(files / "image.nii.gz")
    write_boxes(files / "boxes.csv", make_truth(), volume, names=("Ball", "cube"))
    (files / "names.json").write_text('{"7": "cube", "2": "ball"}')
    code, out, _ = run(
        *usual(files, names=files / "names.json", truth=files / "truth.nii.gz", method="box"), "--json"
    )
    assert code == 0
    report = json.loads(out)
    assert report["rounds"][0]["dice"]["cube"] == 1
    assert set(np.unique(load_labels(files / "mask.nii.gz", volume))) == {0, 2, 7}


def test_a_box_that_fell_back_is_told_by_its_number(files, run):
    volume = load_volume(files / "image.nii.gz")
    save_map(files / "image.nii.gz", np.zeros(volume.shape, np.float32), volume)
    code, out, errors = run(*usual(files, method="grabcut_plus"), "--json")
    assert code == 0
    assert json.loads(out)["fallen_back"] == [1, 2]
    assert "Box 2: the image has no contrast in it, so its middle is taken instead." in errors


def test_strokes_without_names_are_of_the_class_that_a_box_of_their_value_names(files, run):
    volume = load_volume(files / "image.nii.gz")
    boxes = boxes_of_labels(make_truth() + 1)
    named = [
        NamedBox(b.start, b.stop, n, int(VALUES[b.label - 1]))
        for b, n in zip(boxes, ("anterior", ""), strict=True)
    ]
    save_boxes(files / "boxes.csv", named, volume)
    words = usual(files, labels=files / "sparse.nii.gz", truth=files / "truth.nii.gz", method="box")
    code, out, errors = run(*words, "--json")
    assert code == 0
    assert json.loads(out)["rounds"][0]["dice"].keys() == {"anterior", "class 7"}
    assert set(np.unique(load_labels(files / "mask.nii.gz", volume))) == {0, 2, 7}
    assert "which has the value" not in errors
    (files / "names.json").write_text('{"2": "ball", "7": "anterior"}')
    code, out, errors = run(*words, "--names", files / "names.json", "--json")
    assert code == 0
    assert "Boxes of the value 2 are anterior, which has the value 7 in the mask." in errors


@pytest.mark.parametrize(
    ("value", "unlabelled", "meaning"), [(1, None, "background"), (1, 0, "background"), (9, 9, "unlabelled")]
)
def test_a_box_of_a_value_that_is_no_class_in_the_labels_is_refused(files, run, value, unlabelled, meaning):
    volume = load_volume(files / "image.nii.gz")
    (box, _) = boxes_of_labels(make_truth() + 1)
    save_boxes(files / "boxes.csv", [NamedBox(box.start, box.stop, "ball", value)], volume)
    words = usual(files, labels=files / "sparse.nii.gz", unlabelled=unlabelled, method="box")
    code, out, errors = run(*words)
    assert code == 2
    assert out == ""
    assert f"has the value {value}, which means {meaning} in " in errors
    assert errors.count("\n") == 1
    assert not (files / "mask.nii.gz").exists()
    assert run(*usual(files, method="box"))[0] == 0  # without labels any value is a class
    assert set(np.unique(load_labels(files / "mask.nii.gz", volume))) == {0, value}


def test_which_network_is_saved_is_told(files, run):
    words = usual(files, rounds=1, keep=0, save_model=files / "model", method="box")
    code, _, errors = run(*words, "--round-steps", 4, "--device", "cpu")
    assert code == 0
    assert "is that of the last round, 1; the mask is that of round 0." in errors
    assert (files / "model" / "model.json").exists()


def box_of(truth, value):
    """Return the largest bounding box of a connected part of a class that is no tangle of many."""
    parts = boxes_of_labels(np.where(truth == value, 2, 1), parts=True)
    return max((box for box in parts if box.volume < 100_000), key=lambda box: box.volume)


@real
@pytest.mark.parametrize("kind", ["anisotropic", "oblique", "two channels"])
def test_real_grids_of_all_kinds(tmp_path, run, kind):
    images, truth = {
        "anisotropic": (
            ["spinalcord_mr/t2s_t2s_uncropped.nii.gz"],
            "spinalcord_mr/t2s_t2s_uncropped_gmseg_manual.nii.gz",
        ),
        "oblique": (["odd_files/oblique_aniso.nii.gz"], "odd_files/oblique_aniso_label.nii.gz"),
        "two channels": (
            ["ms_lesions_mr4/patient19_FLAIR.nii.gz", "ms_lesions_mr4/patient19_T1.nii.gz"],
            "ms_lesions_mr4/patient19_lesions.nii.gz",
        ),
    }[kind]
    paths = [HIPPOCAMPUS.parent / path for path in images]
    volume = load_volume(paths if len(paths) > 1 else paths[0])
    answer = load_labels(HIPPOCAMPUS.parent / truth, volume)
    box = box_of(answer, int(answer.max()))
    boxes, mask = tmp_path / "boxes.csv", tmp_path / "mask.nii.gz"
    save_boxes(boxes, [NamedBox(box.start, box.stop, "object")], volume)
    code, out, _ = run(
        ",".join(map(str, paths)), "--boxes", boxes, "--out", mask, "--method", "grabcut_plus", "--json"
    )
    assert code == 0
    assert json.loads(out)["volumes_ml"]["object"] > 0
    found = load_labels(mask, volume)  # refuses another grid
    stored, original = nibabel.load(mask), nibabel.load(paths[0])
    assert stored.shape == original.shape[:3]
    np.testing.assert_allclose(stored.affine, original.affine, atol=1e-3)
    assert found.any()
    assert not found[~_inside(box, found.shape)].any()
    assert dice(found == 1, _inside(box, found.shape) & (answer == answer.max())) > 0.3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"boxes": "none.csv"}, "none.csv"),
        ({"boxes": "outside.csv"}, "outside"),
        ({"boxes": "empty.csv"}, "no boxes"),
        ({"boxes": "image.nii.gz"}, ".csv"),
        ({"denoise": "class,shave"}, "not shave"),
        ({"rounds": "1", "keep": "5"}, "--keep 5 is no round; give last, best, or a number from 0 to 1."),
        ({"keep": "first"}, "--keep first is no round"),
        ({"keep": "best"}, "--truth or --labels"),
        ({"save_model": "model"}, "no network to save"),
        ({"encoder": "model"}, "no network to start from"),
        ({"rounds": "1", "encoder": "image.nii.gz"}, "holds no encoder"),
        ({"out": "image.nii.gz"}, "is an input"),
        ({"out": "boxes.csv"}, "cannot be written"),
        ({"out": "mask.jpg"}, "cannot be written"),
        ({"save_labels": "mask.nii.gz"}, "give two files"),
        ({"labels": "sparse.nii.gz", "save_labels": "sparse.nii.gz"}, "is an input"),
        ({"truth": "sparse.nii.gz", "out": "sparse.nii.gz"}, "is an input"),
        ({"truth": "other.nii.gz"}, "none of the boxes' classes (2, 7)"),
        ({"truth": "none.nii.gz"}, "does not exist"),
        ({"save_labels": "labels.nii.gz", "boxes": "highest.csv"}, "value 255"),
        ({"rounds": "1", "save_model": "image.nii.gz"}, "does not take files"),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(files, run, changes, sentence):
    volume = load_volume(files / "image.nii.gz")
    save_labels(files / "other.nii.gz", np.full(volume.shape, 5), volume)
    header = "class,value,x_min,y_min,z_min,x_max,y_max,z_max,units\n"
    (files / "outside.csv").write_text(f"{header},2,50,50,50,60,60,60,voxel\n")
    (files / "highest.csv").write_text(f"{header},255,2,2,2,6,6,6,voxel\n")
    (files / "empty.csv").write_text(header)
    before = {path: path.read_bytes() for path in files.iterdir()}
    paths = {"encoder", "boxes", "out", "truth", "labels", "save_labels", "save_model"}
    code, out, errors = run(
        *usual(files, **{name: files / value if name in paths else value for name, value in changes.items()})
    )
    assert code == 2
    assert out == ""
    assert sentence in errors
    assert errors.count("\n") == 1
    assert {path: path.read_bytes() for path in files.iterdir()} == before


@pytest.mark.parametrize("wrong", [["--method", "magic"], ["--rounds", "-1"], ["--device", "tpu"]])
def test_what_is_no_value_of_a_flag_is_told(files, run, wrong):
    code, out, errors = run(*usual(files), *wrong)
    assert code == 2
    assert out == ""
    assert wrong[0] in errors
    assert not (files / "mask.nii.gz").exists()


def test_help_names_every_flag_and_loads_nothing_slow():
    code = (
        "import sys; from napari_sparseseg.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'monai', 'sklearn', 'scipy', 'nibabel'} & set(sys.modules)))"
    )
    plain = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "PYTHONUTF8": "1"}
    words = [sys.executable, "-c", code, "boxes", "--help"]
    answer = subprocess.run(words, capture_output=True, text=True, check=True, env=plain)
    assert answer.stdout.strip().endswith("[]")
    flags = {
        "boxes",
        "out",
        "labels",
        "truth",
        "keep",
        "save_labels",
        "save_model",
        "unlabelled",
        "names",
        "frame",
    }
    flags |= {e.name for c in (BoxConfig, RecursionConfig, CrfConfig, NetworkConfig) for e in fields(c)}
    for flag in flags:
        assert f"--{flag.replace('_', '-')} " in answer.stdout
    for name in (*BOX_METHODS, *DENOISING):
        assert name in answer.stdout
