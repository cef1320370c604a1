import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from command_line import make_runner
from phantoms import make_image, make_truth
from small_sample import load_small_sample

from napari_sparseseg.cli_progress import ProgressDisplay
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import StepDone
from napari_sparseseg.volume import load_labels, load_volume, save_labels, save_map, volume_from_array

FAST = ["--steps", "25", "--patch-voxels", "2000", "--device", "cpu"]


@pytest.fixture
def files(tmp_path):
    """An image, its truth and three labelled slices in the default convention, as NIfTI."""
    truth = make_truth().astype(np.int32)
    volume = volume_from_array(make_image(truth), (2.0, 1.0, 1.0))
    painted = np.array([1, 2, 7])[truth]
    sparse = np.zeros_like(painted)
    sparse[9], sparse[:, 11], sparse[:, :, 6] = painted[9], painted[:, 11], painted[:, :, 6]
    save_map(tmp_path / "image.nii.gz", volume.data[0], volume)
    save_labels(tmp_path / "truth.nii.gz", np.array([0, 2, 7])[truth], volume)
    save_labels(tmp_path / "sparse.nii.gz", sparse, volume)
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    return make_runner(monkeypatch, capsys)


def test_segment_writes_mask_uncertainty_and_model_on_the_source_grid(files, run):
    mask, uncertainty, model = files / "mask.nii.gz", files / "u.nii.gz", files / "model"
    code, out, _ = run(
        "segment", files / "image.nii.gz", "--labels", files / "sparse.nii.gz", "--out", mask,
        "--uncertainty", uncertainty, "--save-model", model, "--json", *FAST,
    )  # fmt: skip
    assert code == 0
    report = json.loads(out)
    assert report["training"]["steps"] == 25
    image = load_volume(files / "image.nii.gz")
    labels = load_labels(mask, image)  # refuses another grid
    sparse = load_labels(files / "sparse.nii.gz", image)
    assert set(np.unique(labels)) <= {0, 2, 7}
    np.testing.assert_array_equal(labels[sparse > 0], np.where(sparse == 1, 0, sparse)[sparse > 0])
    volumes = {int(name.split()[-1]): ml for name, ml in report["volumes_ml"].items()}
    assert volumes[7] == pytest.approx((labels == 7).sum() * 0.002)
    assert 0 <= load_volume(uncertainty).data.min() <= load_volume(uncertainty).data.max() <= 1.001
    assert {path.name for path in model.iterdir()} == {"model.json", "model.safetensors"}


def test_ctrl_c_keeps_the_state_and_resume_ends_with_the_same_weights(files, run, monkeypatch):
    case = f"{files / 'image.nii.gz'}={files / 'sparse.nii.gz'}"
    assert run("train", "--case", case, "--out", files / "whole", *FAST)[0] == 0
    show = ProgressDisplay._show

    def press_ctrl_c(display, event):
        show(display, event)
        if isinstance(event, StepDone) and event.step == 10:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ProgressDisplay, "_show", press_ctrl_c)
    code, _, errors = run("train", "--case", case, "--out", files / "parts", *FAST)
    assert code != 0
    assert "--resume" in errors
    assert not (files / "parts" / "model.json").exists()
    monkeypatch.setattr(ProgressDisplay, "_show", show)
    assert run("train", "--case", case, "--out", files / "parts", "--resume", *FAST)[0] == 0
    weights = [(files / name / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]
    assert not (files / "parts" / "state.json").exists()


def test_a_full_disk_at_the_end_of_a_training_loses_nothing(files, run, monkeypatch):
    case, out = f"{files / 'image.nii.gz'}={files / 'sparse.nii.gz'}", files / "model"

    def refuse(*_):
        raise InputError("the disk is full; make room.")

    with monkeypatch.context() as patch:
        patch.setattr("napari_sparseseg.checkpoint.save_model", refuse)
        code, _, errors = run("train", "--case", case, "--out", out, *FAST)
    assert code == 2
    assert "full" in errors
    assert (out / "state.json").exists()
    code, told, _ = run("train", "--case", case, "--out", out, "--resume", *FAST)
    assert code == 0
    assert "Wrote the model" in told
    assert not (out / "state.json").exists()


def test_a_table_of_cases_is_learnt_from_and_measured_by(files, run):
    table = files / "cases.csv"
    rows = [
        "image.nii.gz,sparse.nii.gz,",
        "other.nii.gz,truth_labels.nii.gz,val",
        "gone.nii.gz,sparse.nii.gz,train",
    ]
    table.write_text("image;labels;split\n".replace(";", ",") + "\n".join(rows))
    image = load_volume(files / "image.nii.gz")
    truth = load_labels(files / "truth.nii.gz", image)
    save_labels(files / "truth_labels.nii.gz", np.where(truth == 0, 1, truth), image)
    shutil.copy(files / "image.nii.gz", files / "other.nii.gz")
    words = ["train", "--cases", table, "--out", files / "model", "--json", *FAST, "--preview-weight", "0"]
    code, _, errors = run(*words)
    assert code == 2
    assert "gone.nii.gz does not exist" in errors
    reports = []
    for memory in (["--memory-mb", "100"], ["--memory-mb", "1", "--cache", files / "cache"]):
        code, out, errors = run(*words, "--skip-bad", *memory)
        assert code == 0
        assert "gone.nii.gz is left out" in errors.replace("\n", " ")
        reports.append(json.loads(out))
    for report in reports:
        training = report["training"]
        assert training["cases"] == ["image"]
        assert training["val_dice"]["cases"].keys() == {"other"}
        assert 0 < training["val_dice"]["overall"] <= 1
        assert training["typical"]["cases"] == 1
        assert [Path(name).name for name in report["left_out"]] == ["gone.nii.gz"]
    for wrong, sentence in (
        ("image,labels,split\nimage.nii.gz,sparse.nii.gz,test\n", "give train or val"),
        ("image,labels\nimage.nii.gz,\n", "lacks an image, or labels, seeds or points"),
        ("image,split\nimage.nii.gz,train\n", "no column labels or seeds or points"),
        ("image,labels,split\nimage.nii.gz,sparse.nii.gz,val\n", "nothing to learn from"),
        (
            "image,labels,split\nimage.nii.gz,sparse.nii.gz,\nimage.nii.gz,sparse.nii.gz,val\n",
            "learnt from and to be measured by",
        ),
    ):
        table.write_text(wrong)
        code, _, errors = run(*words)
        assert code == 2
        assert sentence in errors.replace("\n", " ")


def test_sparsify_and_evaluate_chain(files, run):
    sparse = files / "simulated.nii.gz"
    code, out, _ = run(
        "sparsify", files / "truth.nii.gz", "--out", sparse, "--slices", 3, "--style", "scribbles"
    )
    assert code == 0
    assert "--unlabelled 255" in out
    truth = load_volume(files / "truth.nii.gz")
    values = load_labels(sparse, truth)
    labelled = values != 255
    np.testing.assert_array_equal(values[labelled], load_labels(files / "truth.nii.gz", truth)[labelled])
    code, out, _ = run("evaluate", files / "truth.nii.gz", files / "truth.nii.gz", "--json",
                       "--only-where", sparse, "--only-value", 255)  # fmt: skip
    scores = json.loads(out)
    assert code == 0
    assert scores["mean_dice"] == 1
    assert scores["voxels_compared"] == (~labelled).sum()


def test_labels_of_the_other_convention_are_asked_about(files, run):
    sparse = files / "simulated.nii.gz"
    run("sparsify", files / "truth.nii.gz", "--out", sparse, "--slices", 3)
    code, _, errors = run(
        "segment", files / "image.nii.gz", "--labels", sparse, "--out", files / "m.nii.gz", *FAST
    )
    assert code == 2
    assert "--unlabelled 255" in errors


def test_channels_on_one_grid(files, run):
    image = f"{files / 'image.nii.gz'},{files / 'truth.nii.gz'}"
    mask, model = files / "m.nii.gz", files / "model"
    labels = ["--labels", files / "sparse.nii.gz", "--out", mask, "--save-model", model]
    assert run("segment", image, *labels, *FAST)[0] == 0
    assert json.loads((model / "model.json").read_text())["channels"] == 2
    code, _, errors = run("predict", "--model", model, "--out", files / "p", files / "image.nii.gz")
    assert code == 2
    assert "1 channel" in errors
    assert "2" in errors


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"image": "none.nii.gz"}, "does not exist"),
        ({"--labels": "none.nii.gz"}, "does not exist"),
        ({"--out": "mask.jpg"}, "cannot be written"),
        ({"--out": "image.nii.gz/mask.nii.gz"}, "cannot be written"),
        ({"--labels": "image.nii.gz"}, "whole numbers"),
        ({"--spacing": "1,2"}, "Z,Y,X"),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(files, run, change, sentence):
    options = {"--labels": "sparse.nii.gz", "--out": "mask.nii.gz"} | change
    image = files / options.pop("image", "image.nii.gz")
    words = []
    for name, value in options.items():
        words += [name, files / value if name in ("--labels", "--out") else value]
    code, out, errors = run("segment", image, *words, *FAST)
    assert code == 2
    assert out == ""
    assert sentence in errors
    assert "Traceback" not in errors
    assert not (files / "mask.nii.gz").exists()


def test_a_wrong_case_and_a_wrong_model_are_told(files, run):
    code, _, errors = run("train", "--case", "image.nii.gz", "--out", files / "model", *FAST)
    assert code == 2
    assert "IMAGE=SPARSE" in errors
    code, _, errors = run("predict", "--model", files, "--out", files / "p", files / "image.nii.gz")
    assert code == 2
    assert "model.json" in errors


def test_the_demo_writes_all_it_promises(tmp_path, run, monkeypatch):
    folder = tmp_path / "sample"
    folder.mkdir()
    sample = load_small_sample(folder, np.s_[28:68, 30:78, 24:64])  # `make demo` takes the whole
    monkeypatch.setattr("napari_sparseseg.demo.load_sample", lambda: sample)
    tmp_path = tmp_path / "demo"
    code, out, _ = run("demo", "--out", tmp_path, "--steps", 60, "--json")
    assert code == 0
    assert json.loads(out)["mean_dice"] > 0.8
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["slices"] == 3
    assert {path.name for path in tmp_path.iterdir()} == {
        "comparison.png", "mask.nii.gz", "report.json", "sparse_labels.nii.gz", "uncertainty.nii.gz",
    }  # fmt: skip


def test_results_never_replace_their_inputs(files, run):
    sparse, image = files / "sparse.nii.gz", files / "image.nii.gz"
    before = sparse.read_bytes(), image.read_bytes()
    assert run("segment", image, "--labels", sparse, "--out", sparse, *FAST)[0] == 2
    assert run("segment", image, "--labels", sparse, "--out", image, *FAST)[0] == 2
    assert run("sparsify", sparse, "--out", sparse, "--slices", 1)[0] == 2
    model = files / "model"
    assert run("train", "--case", f"{image}={sparse}", "--out", model, *FAST)[0] == 0
    code, _, errors = run("predict", "--model", model, "--out", files, image, "--overwrite")
    assert code == 2
    assert "is an input" in errors
    assert before == (sparse.read_bytes(), image.read_bytes())


def test_folders_that_take_no_files_are_refused_before_the_work(files, run):
    image, sparse = files / "image.nii.gz", files / "sparse.nii.gz"
    case = f"{image}={sparse}"
    code, _, errors = run("train", "--case", case, "--out", image, *FAST)
    assert code == 2
    assert "does not take files" in errors
    words = ["--labels", sparse, "--out", files / "m.nii.gz", "--save-model", sparse]
    assert run("segment", image, *words, *FAST)[0] == 2
    assert not (files / "m.nii.gz").exists()
    code, _, errors = run("train", "--case", case, "--out", files / "model", "--resume", *FAST)
    assert code == 2
    assert "state.json" in errors
