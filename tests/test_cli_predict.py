import json
import shutil
import signal
from pathlib import Path

import pydicom
import pytest
from batch_models import stop_the_clock, write_image, write_model
from command_line import make_runner

from napari_sparseseg.cli_progress import ProgressDisplay
from napari_sparseseg.cohort_events import BatchCaseDone
from napari_sparseseg.events import WorkDone
from napari_sparseseg.volume import load_volume, source_files

DICOM = Path(__file__).parents[2] / "shared" / "data" / "dicom"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("batch") / "model")


@pytest.fixture
def run(monkeypatch, capsys, model):
    stop_the_clock(monkeypatch)
    runner = make_runner(monkeypatch, capsys, "predict")
    return lambda *words, model=model: runner("--model", model, "--device", "cpu", "--overlap", 0, *words)


@pytest.fixture
def data(tmp_path):
    for number in range(3):
        write_image(tmp_path / "data" / f"p{number}" / "scan.nii.gz", number)
    return tmp_path / "data"


def test_a_bad_file_is_named_and_does_not_stop_the_others(data, tmp_path, run):
    (data / "bad.nii.gz").write_bytes(b"")
    images = [data, tmp_path / "missing.nii.gz"]
    code, text, errors = run("--out", tmp_path / "out", *images, "--uncertainty", "--formats", "nii.gz,nrrd")
    assert code == 2
    assert "Wrote 3 of 5 masks" in text
    assert "2 failed" in text
    assert "bad.nii.gz is empty" in errors
    assert "missing.nii.gz does not exist" in errors
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("scan*.n*")}
    ends = (".nii.gz", ".nrrd", "_uncertainty.nii.gz")
    assert written == {f"p{number}/scan{end}" for number in range(3) for end in ends}
    (data / "bad.nii.gz").unlink()
    code, text, errors = run("--out", tmp_path / "out", data, "--uncertainty", "--formats", "nii.gz,nrrd")
    assert (code, errors) == (0, "")
    assert "Wrote 0 of 3 masks" in text
    assert "3 were there already" in text


def test_a_segmentation_of_what_is_not_dicom_is_refused_and_leaves_no_mask(data, tmp_path, run):
    code, _, errors = run("--out", tmp_path / "out", data, "--formats", "nii.gz,dicom_seg")
    assert code == 2
    assert errors.count("was not read from one; choose another format") == 3
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_json_tells_every_volume(data, tmp_path, run):
    (data / "bad.nii.gz").write_bytes(b"")
    code, text, _ = run("--out", tmp_path / "out", data, "--json")
    assert code == 2
    told = json.loads(text)
    assert {key: told[key] for key in ("done", "skipped", "failed")} == {"done": 3, "skipped": 0, "failed": 1}
    by_name = {case["name"]: case for case in told["cases"]}
    assert by_name["bad"]["mask"] == ""
    assert "is empty" in by_name["bad"]["error"]
    for number in range(3):
        case = by_name[f"p{number}/scan"]
        assert case["mask"] == str(tmp_path / "out" / f"p{number}" / "scan.nii.gz")
        assert set(case["volumes_ml"]) == {"ball", "cube"}
        assert case["error"] == ""


def test_ctrl_c_ends_between_events_and_the_same_command_goes_on(data, tmp_path, run, monkeypatch):
    show = ProgressDisplay._show

    def press_ctrl_c(display, event):
        show(display, event)
        if isinstance(event, BatchCaseDone):
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(ProgressDisplay, "_show", press_ctrl_c)
        code, text, errors = run("--out", tmp_path / "out", data)
    assert (code, text) == (130, "")
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    assert not list((tmp_path / "out").rglob(".writing-*"))
    code, text, _ = run("--out", tmp_path / "out", data, "--json")
    assert code == 0
    told = json.loads(text)
    assert told["skipped"] >= 1
    assert told["done"] + told["skipped"] == 3


def test_mistakes_are_one_sentence(data, tmp_path, run, monkeypatch, model):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for name in ("model.json", "model.safetensors"):
        (damaged / name).write_bytes((model / name).read_bytes()[: None if name == "model.json" else 500])

    def refuse(*_):
        raise OSError(28, "No space left on device")

    out = tmp_path / "out"
    mistakes = [
        (["--out", out, data], {"model": damaged}, "is damaged"),
        (["--out", out, data], {"model": data}, "model.json"),
        (["--out", data / "p0" / "scan.nii.gz", data], {}, "does not take files"),
        (["--out", data, data], {}, "holds the volumes themselves"),
        (["--out", out, data, "--formats", "jpg"], {}, "jpg"),
        (["--out", out, data, "--formats", "none"], {}, "name at least one"),
        (["--out", out, data, "--spacing", "1,2"], {}, "Z,Y,X"),
        (["--out", out, data, "--workers", "2"], {}, "--dask local"),
        (["--out", out, data], {}, "No space left"),
    ]
    for words, options, sentence in mistakes:
        with monkeypatch.context() as patch:
            if sentence == "No space left":
                patch.setattr("os.fsync", refuse)
            code, text, errors = run(*words, **options)
        assert (code, text) == (2, "")
        assert sentence in errors
        assert errors.startswith("sparseseg: ")
        assert errors.count("\n") == 1


def test_volumes_that_do_not_fit_the_network_are_told_one_by_one(data, tmp_path, run):
    two = write_model(tmp_path / "two", channels=2)
    image = data / "p0" / "scan.nii.gz"
    code, text, errors = run("--out", tmp_path / "out", data, f"{image},{image}", model=two)
    assert code == 2
    assert errors.count("has 1 channels and the model was trained on 2") == 3
    assert "Wrote 1 of 4" in text


@pytest.mark.skipif(not DICOM.is_dir(), reason="the real volumes of ../shared/data are not here")
def test_a_tree_of_dicom_series_becomes_dicom_segmentations(tmp_path, run):
    coarse = write_model(tmp_path / "coarse", spacing=(40.0, 30.0, 30.0))  # few windows
    for name in ("ge_anatomical_001", "generic_anatomical_002_non_isotropic"):
        shutil.copytree(DICOM / name, tmp_path / "study" / name)
    (tmp_path / "study" / "DICOMDIR.txt").write_text("no image")
    out = tmp_path / "out"
    words = ["--out", out, tmp_path / "study", "--formats", "dicom_seg,nii.gz", "--json"]
    code, text, errors = run(*words, model=coarse)
    assert (code, errors) == (0, "")
    cases = json.loads(text)["cases"]
    assert len(cases) == 2
    before = {}
    for case in cases:
        assert case["shape"] == list(load_volume(case["files"][0]).shape)
        written = out / case["results"]["dicom_seg"]
        segmentation, source = (
            pydicom.dcmread(written),
            pydicom.dcmread(source_files(Path(case["files"][0]))[0]),
        )
        assert segmentation.Modality == "SEG"
        assert segmentation.PatientID == source.PatientID
        [referenced] = segmentation.ReferencedSeriesSequence
        assert referenced.SeriesInstanceUID == source.SeriesInstanceUID
        assert {s.SegmentLabel for s in segmentation.SegmentSequence} <= {"ball", "cube"}
        before[written] = written.read_bytes()
    assert json.loads(run(*words, model=coarse)[1])["skipped"] == 2
    assert json.loads(run(*words, "--overwrite", model=coarse)[1])["done"] == 2
    assert {path: path.read_bytes() for path in before} == before
    beside = ["--out", tmp_path / "study" / "masks", *words[2:]]
    assert run(*beside, model=coarse)[0] == 0
    assert json.loads(run(*beside, model=coarse)[1])["skipped"] == 2  # what it wrote there is no new volume


def test_progress_counts_volumes_and_failures(monkeypatch, capsys):
    display = ProgressDisplay("Volumes")
    monkeypatch.setattr("napari_sparseseg.cli_progress._LOG_SECONDS", -1.0)
    display._show(WorkDone(0.0, "reading a"))
    display._show(BatchCaseDone(1, 3, "a", "a.nii.gz"))
    display._show(BatchCaseDone(2, 3, "b", "", error="b is empty."))
    display._show(WorkDone(0.0, "reading c"))
    assert capsys.readouterr().err.splitlines() == ["Volumes: 1 of 3.", "Volumes: 2 of 3, 1 failed."]
    [task] = display._bar.tasks
    assert task.completed == pytest.approx(2 / 3)
    assert task.fields["detail"] == "2 of 3, 1 failed, reading c"
