import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import make_runner
from phantoms_ssl import make_volume

from napari_sparseseg import cli
from napari_sparseseg.cli_progress import ProgressDisplay
from napari_sparseseg.encoder_checkpoint import load_encoder
from napari_sparseseg.events import StepDone
from napari_sparseseg.volume import save_labels, save_map, volume_from_array

DATA = Path(__file__).parents[2] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the real volumes of ../shared/data are not here")
SHORT = ["--task", "denoising", "--steps", "2", "--batch-size", "2", "--crop-voxels", "4096"]
SHORT += ["--device", "cpu", "--precision", "float32"]

pytestmark = pytest.mark.usefixtures("few_checks")


@pytest.fixture
def run(monkeypatch, capsys):
    return make_runner(monkeypatch, capsys, "pretrain")


@pytest.fixture
def folder(tmp_path):
    """Return a folder of three volumes, and labels of the first one beside it."""
    folder = tmp_path / "volumes"
    folder.mkdir()
    for number in range(3):
        read = make_volume(seed=number, labelled=True)
        volume = volume_from_array(read.image, read.spacing)
        save_map(folder / f"v{number}.nii.gz", read.image[0], volume)
        if number == 0:
            sparse = np.zeros(volume.shape, np.int32)
            for z in (8, 15, 17):
                sparse[z] = read.annotation[z]
            save_labels(tmp_path / "sparse.nii.gz", sparse, volume)
    return folder


def test_a_folder_is_learnt_from(run, folder, tmp_path):
    out = tmp_path / "encoder"
    code, told, err = run(folder, "--out", out, *SHORT)
    assert code == 0, err
    assert f"Wrote the encoder to {out} after 2 steps." in told
    assert "Error on the volumes learnt from, which is optimistic" in told
    assert f"--encoder {out}" in told
    assert load_encoder(out).summary["volumes"] == ["v0", "v1", "v2"]


def test_the_report_for_programs(run, folder, tmp_path):
    code, told, _ = run(folder / "v0.nii.gz", folder, "--out", tmp_path / "e", "--json", *SHORT)
    report = json.loads(told)
    assert code == 0
    assert report["task"] == "denoising"
    assert report["training"]["steps"] == 2
    assert len(report["training"]["volumes"]) == 3  # the one that is named twice counts once
    assert set(report["training"]["scores"]) >= {"value", "trivial", "alignment", "uniformity", "spread"}


def test_labels_serve_the_probe(run, folder, tmp_path):
    case = f"{folder / 'v0.nii.gz'}={tmp_path / 'sparse.nii.gz'}"
    code, told, err = run(folder, "--case", case, "--probe", "--out", tmp_path / "e", "--json", *SHORT)
    assert code == 0, err
    report = json.loads(told)
    assert len(report["training"]["volumes"]) == 3
    [row] = report["probe"]
    assert row["volume"] == "v0"
    assert set(row["dice"]) == {"encoder", "random weights"}
    assert all(0 <= dice <= 1 for dice in row["dice"].values())


def test_a_bad_volume_is_told_and_the_others_go_on(run, folder, tmp_path):
    (folder / "bad.nii.gz").write_bytes(b"no volume")
    code, _, err = run(folder, "--out", tmp_path / "e", *SHORT)
    assert code == 0
    assert "bad is left out" in err
    assert len(load_encoder(tmp_path / "e").summary["volumes"]) == 3


def test_training_starts_from_it(run, folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "e"
    run(folder, "--out", out, *SHORT)
    files = ["--labels", tmp_path / "sparse.nii.gz", "--out", tmp_path / "m.nii.gz", "--encoder", out]
    words = ["segment", folder / "v0.nii.gz", *files, "--steps", "1", "--preview-weight", "0"]
    monkeypatch.setattr(sys, "argv", ["sparseseg", *map(str, words)])
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main()
    assert "The encoder (denoising, 3 volumes, 2 steps) was taken over" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "nothing to learn from"),
        (["{empty}"], "no volume that can be read"),
        (["{missing}.nii.gz"], "missing"),
        (["{volumes}", "--probe"], "--case"),
        (["{volumes}", "--case", "nonsense"], "IMAGE=SPARSE"),
        (["{volumes}", "--seconds", "3"], "one of the two"),
        (["{volumes}", "--task", "colorization"], "channel"),
        (["{volumes}", "--task", "supcon"], "label"),
        (["{volumes}", "--spacing", "1,2"], "--spacing"),
        (["{volumes}", "--resume"], "no stopped pre-training"),
        (["{missing}.nii.gz", "--resume"], "no stopped pre-training"),
    ],
)
def test_mistakes_are_told_in_a_sentence(run, folder, tmp_path, words, reason):
    (tmp_path / "empty").mkdir()
    places = {"empty": tmp_path / "empty", "missing": tmp_path / "missing", "volumes": folder}
    code, told, err = run(*(word.format(**places) for word in [*SHORT, *words]), "--out", tmp_path / "e")
    assert code == 2
    assert reason in err
    assert "Traceback" not in err
    assert not told


def test_a_stopped_run_is_gone_on_with(run, folder, tmp_path, monkeypatch):
    out, long = tmp_path / "e", [*SHORT, "--steps", "6"]
    code, _, err = run(folder, "--out", tmp_path / "whole", *long)
    assert code == 0, err
    with monkeypatch.context() as patch:
        patch.setattr(ProgressDisplay, "_show", _interrupt_at_step(3))
        code, _, err = run(folder, "--out", out, *long)
    assert code != 0
    assert "Stopped; go on with the same command and --resume" in err
    assert json.loads((out / "state.json").read_text())["steps"] == 3
    code, _, err = run(folder, "--out", out, *long, "--resume")
    assert code == 0, err
    assert not (out / "state.json").exists()  # of no use any more
    whole, rest = load_encoder(tmp_path / "whole"), load_encoder(out)
    assert all(whole.weights[name].equal(rest.weights[name]) for name in whole.weights)


def _interrupt_at_step(step):
    def show(display, event):
        if isinstance(event, StepDone) and event.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return show


@real
def test_real_volumes_are_learnt_from(run, tmp_path):
    files = sorted((DATA / "hippocampus_mr" / "images").glob("*.nii.gz"))[:5]
    code, told, err = run(*files, "--out", tmp_path / "e", *SHORT)
    assert code == 0, err
    assert "volumes kept aside" in told


def test_help_loads_neither_torch_nor_monai():
    code = (
        "import sys; sys.argv[0]='sparseseg'; from napari_sparseseg import cli\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'monai' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "pretrain", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "masked_autoenc" in done.stdout.replace("\n", "")
