import json
import threading
import time
import weakref
from pathlib import Path

import pytest
from batch_models import contents, stop_the_clock, write_image, write_model

from napari_sparseseg import batch_case, batch_pipeline
from napari_sparseseg.atomic import atomic_path
from napari_sparseseg.batch import run_batch
from napari_sparseseg.batch_case import BatchStopped, run_case
from napari_sparseseg.batch_ledger import hold_folder
from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.checkpoint import load_model
from napari_sparseseg.cohort_events import BatchCaseDone, BatchFinished
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Noted, finish
from napari_sparseseg.inference import place_model
from napari_sparseseg.settings import InferenceConfig

ODD = Path(__file__).parents[2] / "shared" / "data" / "odd_files"
CPU = InferenceConfig(device="cpu", overlap=0)
REPORT = {"manifest.csv", "manifest.json", "measurements.csv", "report.html"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("batch") / "model")


@pytest.fixture
def data(tmp_path, monkeypatch):
    stop_the_clock(monkeypatch)
    for number in range(4):
        write_image(tmp_path / "data" / f"p{number}" / "scan.nii.gz", number)
    return tmp_path / "data"


def run(model, out, *sources, **options):
    events = []
    config = options.pop("config", BatchConfig())
    inference = options.pop("inference", CPU)
    work = run_batch([str(source) for source in sources], model, out, config, inference, **options)
    return finish(work, events.append), events


def counts(summary):
    return summary.done, summary.skipped, summary.failed


def test_every_volume_is_told_of_and_the_report_comes_last(data, model, tmp_path):
    summary, events = run(model, tmp_path / "out", data)
    assert counts(summary) == (4, 0, 0)
    told = [event for event in events if isinstance(event, BatchCaseDone)]
    assert [(event.done, event.total) for event in told] == [(n, 4) for n in range(1, 5)]
    assert {event.name for event in told} == {record.name for record in summary.records}
    assert all(Path(event.mask).exists() and event.volumes_ml for event in told)
    assert events[-1] == BatchFinished(summary.report, 4, 0, 0)
    assert Path(summary.report).read_text().count("p3/scan")
    left = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    names = {f"p{n}/scan" for n in range(4)}
    assert left == REPORT | {"records/.lock"} | {f"{name}.nii.gz" for name in names} | {
        f"records/{name}.{suffix}" for name in names for suffix in ("json", "png")
    }
    assert threading.active_count() == 1


def test_the_pipeline_writes_what_one_case_after_the_other_does(data, model, tmp_path):
    config = BatchConfig(formats="nii.gz,nrrd", uncertainty=True, probabilities=True)
    loaded = load_model(model)

    def one_by_one(todo, task):
        placed = place_model(loaded, "cpu")
        for source in reversed(todo):
            yield Noted("next")
            yield run_case(source, task, loaded, placed)

    (data / "bad.nii.gz").write_bytes(b"bad")
    first, _ = run(model, tmp_path / "a", data, config=config)
    second, events = run(model, tmp_path / "b", data, config=config, runner=one_by_one)
    assert counts(first) == counts(second) == (4, 0, 1)
    assert events.count(Noted("next")) == 5
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert [record.name for record in second.records] == [record.name for record in first.records]


def test_a_new_run_does_only_what_changed(data, model, tmp_path):
    out = tmp_path / "out"
    run(model, out, data)
    before = contents(out)
    summary, events = run(model, out, data)
    assert counts(summary) == (0, 4, 0)
    assert all(event.skipped for event in events if isinstance(event, BatchCaseDone))
    assert contents(out) == before

    def redone(**options):
        return sorted(e.name for e in run(options.pop("model", model), out, data, **options)[1]
                      if isinstance(e, BatchCaseDone) and not e.skipped)  # fmt: skip

    write_image(data / "p1" / "scan.nii.gz", 8)
    assert redone() == ["p1/scan"]
    (out / "p2" / "scan.nii.gz").unlink()
    (out / "p0" / "scan.nii.gz").write_bytes(b"somebody was here")
    assert redone() == ["p0/scan", "p2/scan"]
    (out / "records" / "p3" / "scan.json").write_text("{")
    assert redone(config=BatchConfig(overwrite=True)) == [f"p{n}/scan" for n in range(4)]
    assert len(redone(inference=InferenceConfig(device="cpu", overlap=0.25))) == 4
    other = write_model(tmp_path / "other", seed=1)
    assert len(redone(model=other, inference=InferenceConfig(device="cpu", overlap=0.25))) == 4
    write_image(data / "p4" / "scan.nii.gz", 4)
    assert redone(model=other, inference=InferenceConfig(device="cpu", overlap=0.25)) == ["p4/scan"]


def test_a_volume_that_moved_is_not_done_again(data, model, tmp_path):
    run(model, tmp_path / "out", data)
    data.rename(tmp_path / "moved")
    summary, _ = run(model, tmp_path / "out", tmp_path / "moved")
    assert counts(summary) == (0, 4, 0)
    assert str(tmp_path / "moved") in (tmp_path / "out" / "manifest.json").read_text()


@pytest.mark.skipif(not ODD.is_dir(), reason="the real volumes of ../shared/data are not here")
def test_three_bad_files_of_ten_cost_none_of_the_good_ones(data, model, tmp_path):
    bad = {
        "truncated": (ODD / "BAD_truncated.nii.gz").read_bytes(),
        "truncated_raw": (ODD / "BAD_truncated_raw.nii").read_bytes(),
        "empty": b"",
        "text": (ODD / "BAD_text.nii.gz").read_bytes(),
        "wrong_suffix": (ODD / "oblique.nrrd").read_bytes(),
        "zero": (ODD / "zero_pixdim.nii.gz").read_bytes(),
        "sheared": (ODD / "sheared_sform.nii.gz").read_bytes(),
        "series": (ODD / "four_d.nii.gz").read_bytes(),
        "colours": (ODD / "rgb24.nii.gz").read_bytes(),
    }
    for name, contained in bad.items():
        suffix = ".nii" if name == "truncated_raw" else ".nii.gz"
        (data / f"{name}{suffix}").write_bytes(contained)
    good = [ODD / name for name in ("image_PIR.nii.gz", "nan_inf.nii.gz", "oblique.nrrd", "two_d.nii.gz",
                                    "name with spaces & ünïcödé.nii.gz", "gz_named_nii.nii", "pair.hdr",
                                    "single_slice.nii.gz", "oblique.mhd")]  # fmt: skip
    total = len(good) + 4 + len(bad)
    assert len(bad) >= 0.3 * total
    summary, _ = run(model, tmp_path / "out", data, *good)
    assert counts(summary) == (total - len(bad), 0, len(bad))
    for record in summary.records:
        path = Path(record.files[0])
        is_bad = path.parent == data
        assert bool(record.error) is is_bad
        mask = tmp_path / "out" / f"{record.name}.nii.gz"
        assert mask.exists() is not is_bad
        if is_bad:
            assert path.name in record.error or "channels" in record.error
            assert record.error.count(". ") == 0  # one sentence
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert len(told["cases"]) == total


def test_a_batch_that_is_closed_leaves_whole_files_and_the_next_one_goes_on(data, model, tmp_path):
    run(model, tmp_path / "whole", data)
    work = run_batch([str(data)], model, tmp_path / "out", BatchConfig(), CPU)
    for event in work:
        if isinstance(event, BatchCaseDone):
            break
    work.close()
    assert threading.active_count() == 1
    assert not list((tmp_path / "out").rglob(".writing-*"))
    summary, _ = run(model, tmp_path / "out", data)
    assert summary.skipped >= 1
    assert sum(counts(summary)) == 4
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize(("share", "most"), [(5.0, 1), (0.4, 2), (0.001, 8)])
def test_only_as_many_volumes_as_memory_allows_are_there_at_once(
    data, model, tmp_path, monkeypatch, share, most
):
    for number in range(4, 10):
        write_image(data / f"p{number}" / "scan.nii.gz", number)
    alive, largest = weakref.WeakSet(), []
    read_one, write_one = batch_pipeline.read_case, batch_pipeline.write_case

    def read(*arguments):
        largest.append(len(alive) + 1)
        case = read_one(*arguments)
        alive.add(case.volume)
        return case

    def write(*arguments):
        time.sleep(0.01)  # so that volumes pile up where they may
        return write_one(*arguments)

    monkeypatch.setattr(batch_pipeline, "read_case", read)
    monkeypatch.setattr(batch_pipeline, "write_case", write)
    monkeypatch.setattr(batch_pipeline, "memory_of", lambda *_: int(share * 100e6))
    summary, _ = run(model, tmp_path / "out", data, config=BatchConfig(memory_mb=100))
    assert counts(summary) == (10, 0, 0)
    assert len(largest) == 10
    assert max(largest) <= most
    assert (max(largest) > 1) is (most > 1)


def test_the_disk_being_full_ends_the_batch_and_mending_it_goes_on(data, model, tmp_path, monkeypatch):
    written = []

    def fill(*arguments):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(arguments)
        return save(*arguments)

    save = batch_case.save_labels
    with monkeypatch.context() as patch:
        patch.setattr(batch_case, "save_labels", fill)
        with pytest.raises(BatchStopped, match="No space left"):
            run(model, tmp_path / "out", data)
    assert threading.active_count() == 1
    summary, _ = run(model, tmp_path / "out", data)
    assert counts(summary) == (2, 2, 0)
    run(model, tmp_path / "whole", data)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("step", ["read_case", "predict_case", "write_case"])
def test_a_defect_of_ours_ends_the_batch_and_leaves_no_thread(data, model, tmp_path, monkeypatch, step):
    def fail(*_):
        raise SystemError("a defect of ours")

    monkeypatch.setattr(batch_pipeline, step, fail)
    with pytest.raises(SystemError, match="a defect"):
        run(model, tmp_path / "out", data)
    assert threading.active_count() == 1


def test_inputs_are_never_replaced_by_results(data, model, tmp_path):
    flat = tmp_path / "flat"
    for name in ("a", "a_uncertainty"):
        write_image(flat / f"{name}.nii.gz")
    write_image(flat / "b.nrrd")
    before = {path: path.read_bytes() for path in flat.iterdir()}
    config = BatchConfig(uncertainty=True, overwrite=True)
    summary, _ = run(model, flat, *sorted(flat.iterdir()), config=config)
    told = {record.name: record.error for record in summary.records}
    assert "is an input" in told["a"]
    assert told["b"] == ""
    assert {path: path.read_bytes() for path in before} == before


def test_two_batches_do_not_write_to_one_folder(data, model, tmp_path):
    with hold_folder(tmp_path / "out"), pytest.raises(InputError, match="another batch"):
        run(model, tmp_path / "out", data)
    assert counts(run(model, tmp_path / "out", data)[0]) == (4, 0, 0)


def test_what_a_killed_run_was_writing_is_cleared_away_and_nothing_else(data, model, tmp_path):
    out = tmp_path / "out"
    (out / "p1").mkdir(parents=True)
    (out / "mine").mkdir()
    left = [atomic_path(out / place / "scan.nii.gz") for place in ("p1", "records/p1", ".", "mine")]
    for begun in left:
        begun.__enter__().write_bytes(b"half")
    run(model, out, data)
    assert [path.parent.name for path in out.rglob(".writing-*")] == ["mine"]
    for begun in left:
        begun.gen.close()


def test_a_batch_that_cannot_begin_is_told_in_a_sentence(data, model, tmp_path, monkeypatch):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for name in ("model.json", "model.safetensors"):
        contained = (model / name).read_bytes()
        (damaged / name).write_bytes(contained[: len(contained) // 2] if "safe" in name else contained)
    with pytest.raises(InputError, match="is damaged"):
        run(damaged, tmp_path / "out", data)
    with pytest.raises(InputError, match="no readable"):
        run(tmp_path, tmp_path / "out", data)
    with pytest.raises(InputError, match="name at least one"):
        run(model, tmp_path / "out", data, config=BatchConfig(formats="none"))
    with pytest.raises(InputError, match="does not take files"):
        run(model, data / "p0" / "scan.nii.gz", data)
    two = write_model(tmp_path / "two", channels=2)
    summary, _ = run(two, tmp_path / "out", data)
    assert counts(summary) == (0, 0, 4)
    assert all("1 channel" in r.error and "trained on 2" in r.error for r in summary.records)
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    with pytest.raises(InputError, match="does not take files"):
        run(model, tmp_path / "out", data)
