import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from batch_models import SPACING, write_image, write_model
from phantoms import TABLE

from napari_sparseseg.batch import hash_model
from napari_sparseseg.batch_case import (
    BatchStopped,
    BatchTask,
    explain,
    memory_of,
    name_results,
    place_for,
    read_case,
    run_case,
)
from napari_sparseseg.batch_ledger import is_done, read_record, record_path
from napari_sparseseg.batch_records import BatchInput
from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.checkpoint import load_model
from napari_sparseseg.errors import InputError
from napari_sparseseg.message_fields import Payload, codec_for
from napari_sparseseg.networks import Precision
from napari_sparseseg.settings import InferenceConfig
from napari_sparseseg.volume import load_labels, load_volume


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("batch") / "model")


@pytest.fixture(scope="module")
def model(model_folder):
    return load_model(model_folder)


@pytest.fixture
def task(model_folder, tmp_path):
    return BatchTask(
        str(model_folder), hash_model(model_folder), str(tmp_path / "out"), BatchConfig(),
        InferenceConfig(device="cpu", overlap=0), Precision("float32", channels_last=False),
    )  # fmt: skip


@pytest.fixture
def source(tmp_path):
    return BatchInput("p1/scan", (str(write_image(tmp_path / "scan.nii.gz")),))


@pytest.fixture
def run(model):
    return lambda source, task: run_case(source, task, model, place_for(task, model))


def test_everything_asked_for_is_written_on_the_source_grid_and_recorded(source, task, run):
    config = BatchConfig(formats="nii.gz,nrrd", uncertainty=True, probabilities=True)
    record = run(source, replace(task, config=config))
    out, image = Path(task.out), load_volume(source.files[0])
    assert record.error == ""
    assert record == read_record(out, "p1/scan")
    assert record.results == name_results("p1/scan", config)
    masks = [load_labels(out / record.results[kind], image) for kind in ("nii.gz", "nrrd")]
    np.testing.assert_array_equal(*masks)
    assert set(np.unique(masks[0])) <= {0, *TABLE.mask_values}
    for name, ml in record.volumes_ml.items():
        value = TABLE.mask_values[TABLE.names.index(name)]
        assert ml == pytest.approx((masks[0] == value).sum() * np.prod(SPACING) / 1000)
    probabilities = load_volume(out / record.results["probabilities"]).data
    assert probabilities.shape == (3, *image.shape)
    best = np.array(TABLE.mask_values)[probabilities.argmax(0)]
    assert (best == masks[0]).mean() > 0.99  # float16 makes ties
    uncertainty = load_volume(out / record.results["uncertainty"]).data
    assert 0 <= uncertainty.min() <= uncertainty.max() <= 1.001
    assert (record.shape, record.spacing) == (image.shape, image.spacing)
    assert (out / "records" / "p1" / "scan.png").read_bytes().startswith(b"\x89PNG")


def test_a_task_can_be_sent_to_another_process(task):
    task = replace(task, frame=2, spacing=(1.0, 2.0, 3.0))
    plain = json.loads(json.dumps(codec_for(BatchTask).write(task, "task", [])))
    assert codec_for(BatchTask).read(plain, "task", Payload(bytearray())) == task


def test_results_hold_until_anything_they_depend_on_changes(source, task, run):
    record, out = run(source, task), Path(task.out)
    known = (task.model_hash, task.settings_hash)
    assert is_done(out, record, *known)
    assert not is_done(out, record, "another", task.settings_hash)
    others = [
        replace(task, inference=InferenceConfig(overlap=0.25)),
        replace(task, inference=InferenceConfig(largest_component=True)),
        replace(task, config=BatchConfig(formats="nrrd")),
        replace(task, config=BatchConfig(uncertainty=True)),
        replace(task, frame=1),
        replace(task, spacing=(1.0, 1.0, 2.0)),
    ]
    hashes = {other.settings_hash for other in others}
    assert len(hashes) == len(others)
    assert task.settings_hash not in hashes
    without_effect = [
        replace(task, inference=InferenceConfig(device="auto", overlap=0)),
        replace(task, config=BatchConfig(memory_mb=200, overwrite=True, formats="nii.gz, nii.gz")),
    ]
    assert {other.settings_hash for other in without_effect} == {task.settings_hash}
    mask = out / record.results["nii.gz"]
    whole = mask.read_bytes()
    mask.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert not is_done(out, record, *known)
    mask.unlink()
    assert not is_done(out, record, *known)
    mask.write_bytes(whole)
    assert is_done(out, record, *known)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InputError("a.nii is empty; copy it again."), "a.nii is empty; copy it again."),
        (MemoryError(), "needs more memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"), "more memory"),
        (KeyError("x\ny"), "KeyError"),
        (RecursionError("too\n  deep."), "RecursionError: too deep"),
    ],
)
def test_whatever_a_volume_does_becomes_its_sentence(source, task, run, monkeypatch, error, words):
    def fail(*_, **__):
        raise error

    assert words in explain(error, "p1/scan")
    for step in ("load_volume", "predict_volume", "save_labels"):
        with monkeypatch.context() as patch:
            patch.setattr(f"napari_sparseseg.batch_case.{step}", fail)
            record = run(source, task)
        assert words in record.error
        assert "\n" not in record.error
        assert record.results == {}
        assert record == read_record(Path(task.out), source.name)
        assert not is_done(Path(task.out), record, record.model_hash, record.settings_hash)
    assert run(source, task).error == ""


def test_files_of_nobody_are_not_replaced_but_own_ones_are(source, task, run):
    out = Path(task.out)
    truth = write_image(out / "p1" / "scan.nii.gz", seed=9).read_bytes()
    record = run(source, task)
    assert "--overwrite" in record.error
    assert (out / "p1" / "scan.nii.gz").read_bytes() == truth
    assert "--overwrite" in run(source, task).error  # the record of a failure makes it nobody's own
    record = run(source, replace(task, config=BatchConfig(overwrite=True)))
    assert record.error == ""
    mask = (out / "p1" / "scan.nii.gz").read_bytes()
    assert mask != truth
    (out / "p1" / "scan.nii.gz").write_bytes(b"")
    image = Path(source.files[0])
    whole = image.read_bytes()
    image.write_bytes(b"")
    assert "is empty" in run(source, task).error
    image.write_bytes(whole)
    assert run(source, task).error == ""  # also after a failure in between
    assert (out / "p1" / "scan.nii.gz").read_bytes() == mask


def test_what_was_begun_may_be_finished_by_the_next_run(source, task, run, monkeypatch):
    out = Path(task.out)

    def die(*_):
        raise KeyboardInterrupt  # as good as kill -9 for what is on the disk

    with monkeypatch.context() as patch:
        patch.setattr("napari_sparseseg.batch_thumbnails.draw_thumbnail", die)
        patch.setattr("napari_sparseseg.batch_report.draw_thumbnail", die)
        with pytest.raises(KeyboardInterrupt):
            run(source, task)
    assert (out / "p1" / "scan.nii.gz").exists()
    begun = read_record(out, source.name)
    assert "interrupted" in begun.error
    assert run(source, task).error == ""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_full_or_broken_disk_ends_the_batch(source, task, run, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, "the disk is full")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(BatchStopped, match="the disk is full"):
        run(source, task)
    assert [path for path in Path(task.out).rglob("*") if path.is_file()] == []


def test_a_disk_that_no_library_calls_full_ends_the_batch_too(source, task, run, monkeypatch):
    def refuse(*_):
        raise InputError("the file cannot be written (no reason).")

    monkeypatch.setattr("napari_sparseseg.batch_case.save_labels", refuse)
    assert "no reason" in run(source, task).error
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(BatchStopped, match="is full"):
        run(source, task)


def test_a_folder_that_goes_away_ends_the_batch(source, task, run, monkeypatch):
    def refuse(*_):
        raise InputError("it is not there.")

    monkeypatch.setattr("napari_sparseseg.batch_case.save_labels", refuse)
    monkeypatch.setattr("napari_sparseseg.batch_case.write_record", lambda *_: None)
    with pytest.raises(BatchStopped, match="is gone"):
        run(source, task)
    Path(task.out).write_text("a file in its place")
    with pytest.raises(BatchStopped, match="is gone"):
        run(source, task)


def test_damaged_records_mean_that_the_work_is_done_again(source, task, run):
    record, out = run(source, task), Path(task.out)
    path = record_path(out, source.name)
    good = path.read_text()
    for damaged in (
        "",
        "[]",
        "{}",
        good[:-20],
        good.replace('"seconds"', '"minutes"'),
        "[" * 100_000,
        "\x00",
    ):
        path.write_text(damaged)
        assert read_record(out, source.name) is None
    path.write_bytes(b"\xff\xfe")
    assert read_record(out, source.name) is None
    path.write_text(good)
    assert read_record(out, source.name) == record


def test_a_volume_without_files_has_no_hash_and_one_sentence(task, model):
    read = read_case(BatchInput("gone", ("/nowhere/gone.nii.gz",)), task)
    assert (read.volume, read.input_hash, memory_of(read, task, model)) == (None, "", 0)
    assert "does not exist" in read.error


def test_memory_counts_what_is_kept(source, task, model):
    read = read_case(source, task)
    assert memory_of(read, task, model) == 1000 * (2 * 4 + 1 + 2)
    both = replace(task, config=BatchConfig(probabilities=True))
    assert memory_of(read, both, model) == 1000 * (2 * 4 + 1 + 2 + 3 * 2)
