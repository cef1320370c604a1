import json
import os
import signal
import socket
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from batch_models import write_image, write_model
from distributed import LocalCluster

from napari_sparseseg.batch import hash_model, run_batch
from napari_sparseseg.batch_case import BatchTask
from napari_sparseseg.batch_dask import dask_runner
from napari_sparseseg.batch_pipeline import run_here
from napari_sparseseg.batch_records import BatchInput, BatchRecord
from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.checkpoint import load_model
from napari_sparseseg.dask_crew import connect, versions_here
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Noted, WorkDone, finish
from napari_sparseseg.networks import Precision
from napari_sparseseg.settings import InferenceConfig


@pytest.fixture(scope="module")
def client():
    """Start a cluster of two processes for all tests, and see that it leaves none."""
    with connect("local", 2, gpu=False) as client:
        yield client
        children = set(client.run(os.getpid).values())
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


@pytest.fixture(scope="module")
def address(client):
    return client.scheduler.address


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Return ten cases, a function that makes their task, and what a run in this process leaves."""
    folder = tmp_path_factory.mktemp("batch")
    model = write_model(folder / "model")
    damaged = folder / "damaged.nii.gz"
    damaged.write_bytes(b"nothing")
    todo = [BatchInput("damaged", (str(damaged),)), BatchInput("nowhere", (str(folder / "nowhere.nii"),))]
    todo += [BatchInput(f"c{n}", (str(write_image(folder / f"c{n}.nii.gz", n)),)) for n in range(8)]

    def task(out, device="cpu"):
        settings = BatchConfig(uncertainty=True), InferenceConfig(device=device)
        precision = Precision("float32", channels_last=False)
        return BatchTask(str(model), hash_model(model), str(out), *settings, precision)

    before = torch.get_num_threads()
    torch.set_num_threads(2)  # unlike the workers, which have one
    list(run_here(todo, task(folder / "here"), load_model(model)))
    torch.set_num_threads(before)
    return todo, task, left_in(folder / "here")


def left_in(out):
    """Return the bytes of all files of a batch by name; of a record, what it says but for the seconds."""
    found = {}
    for path in out.rglob("*"):
        if path.is_file():
            found[path.relative_to(out).as_posix()] = path.read_bytes()
    for name in found:
        if name.endswith(".json"):
            found[name] = {key: value for key, value in json.loads(found[name]).items() if key != "seconds"}
    return found


def run(runner, todo, task):
    """Run to the end; return the records by name, and the sentences."""
    records, told = {}, []
    for item in runner(todo, task):
        assert isinstance(item, (BatchRecord, Noted, WorkDone))
        if isinstance(item, BatchRecord):
            assert item.name not in records
            records[item.name] = item
        elif isinstance(item, Noted):
            told.append(item.text)
    return records, told


def until_read(work, pipe):
    """Go on until a worker reads a named pipe; return what was yielded, and the end that it waits for."""
    items = []
    while True:
        items.append(next(work))
        try:
            return items, os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # there is no reader yet
            continue


def kill_worker_at(client, number):
    """Kill the worker that has the case that was sent as the number-th."""
    keys = {key: worker for worker, tasks in client.processing().items() for key in tasks}
    worker = next(worker for key, worker in keys.items() if key.endswith(f"-{number}"))
    os.kill(client.run(os.getpid)[worker], signal.SIGKILL)


@contextmanager
def pipe_at(file):
    """Put a named pipe where a file is, so that whoever reads it waits; put the file back."""
    aside = file.with_suffix(".aside")
    file.rename(aside)
    os.mkfifo(file)
    try:
        yield
    finally:
        aside.replace(file)


def test_workers_leave_the_bytes_that_this_process_leaves(address, batch, tmp_path):
    todo, task, expected = batch
    records, told = run(dask_runner(address), todo, task(tmp_path / "out"))
    assert left_in(tmp_path / "out") == expected
    assert len(expected) >= 4 * 8 + 2
    assert records.keys() == {source.name for source in todo}
    assert {name for name, record in records.items() if record.error} == {"damaged", "nowhere"}
    assert told == ["2 Dask workers were found; 2 at work."]


def test_a_worker_decides_the_number_format_for_all(address, batch, tmp_path, monkeypatch):
    todo, task, _ = batch
    monkeypatch.setattr("napari_sparseseg.batch_case.place_model", None)  # here the device may lack
    model = task(tmp_path).model_folder
    sources = [todo[2].files[0], todo[3].files[0]]
    settings = BatchConfig(), InferenceConfig(device="cpu", overlap=0)
    summary = finish(run_batch(sources, model, tmp_path / "out", *settings, runner=dask_runner(address)))
    assert (summary.done, summary.failed) == (2, 0)
    unplaced = replace(task(tmp_path / "bad"), precision=None, model_hash="of another model")
    with pytest.raises(InputError, match="was changed while the batch ran"):
        run(dask_runner(address), todo, unplaced)


def test_closing_takes_back_what_is_not_begun(client, batch, tmp_path):
    todo, task, _ = batch
    work = dask_runner(client.scheduler.address)(todo[2:8], task(tmp_path))
    pipe = Path(todo[2].files[0])
    with pipe_at(pipe):
        items, end = until_read(work, pipe)
        work.close()
        assert not any(client.processing().values())
    os.close(end)  # the file is back, so that the worker gets free
    assert not list(tmp_path.glob(f".writing-{'?' * 32}"))  # shorter ones are of a worker that goes on
    assert len([item for item in items if isinstance(item, BatchRecord)]) < 6


def test_a_folder_that_no_worker_sees_is_told(address, batch, tmp_path, monkeypatch):
    todo, task, _ = batch
    monkeypatch.setattr("napari_sparseseg.batch_dask._marked", lambda out: nullcontext(str(out / ".mark")))
    with pytest.raises(InputError, match=f"worker tcp.* does not see {tmp_path}; .* share"):
        run(dask_runner(address), todo, task(tmp_path))


def test_workers_without_a_gpu_are_not_waited_for(address, batch, tmp_path, monkeypatch):
    todo, task, _ = batch
    monkeypatch.setattr("napari_sparseseg.dask_crew._PATIENCE_SECONDS", 0.1)
    with pytest.raises(InputError, match=r"offers no GPU; start .* GPU=1, .*1 other cannot be used"):
        run(dask_runner(address), todo, task(tmp_path, device="cuda"))


@pytest.mark.parametrize(
    ("package", "version", "words"),
    [
        ("napari-sparseseg", "9.9", r"the Dask scheduler tcp.* has napari-sparseseg 0.*, this machine 9\.9;"),
        ("torch", "9.9", r"the Dask worker tcp.* has torch 2.*, this machine 9\.9; install the same"),
        ("no-such-package", "9.9", r"the Dask worker tcp.* has no no-such-package; install"),
    ],
)
def test_other_versions_are_refused(address, batch, tmp_path, monkeypatch, package, version, words):
    todo, task, _ = batch
    versions = {**versions_here(), package: version}
    monkeypatch.setattr("napari_sparseseg.dask_crew.versions_here", lambda: versions)
    with pytest.raises(InputError, match=words):
        run(dask_runner(address), todo, task(tmp_path))


def test_workers_are_waited_for_until_closed(batch, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sparseseg.dask_crew._PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("napari_sparseseg.dask_crew._LOOK_SECONDS", 0.1)
    todo, task, _ = batch
    anywhere = {"dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=0, dashboard_address=None, scheduler_kwargs=anywhere) as empty:
        work = dask_runner(empty.scheduler_address)(todo, task(tmp_path))
        told = [item.text for item in islice(work, 5) if isinstance(item, Noted)]
        work.close()
    assert told == ["No worker has joined the Dask cluster so far; waiting for one."]


def test_a_scheduler_that_cannot_be_reached_is_told(batch, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sparseseg.dask_crew._CONNECT_SECONDS", 0.3)
    todo, task, _ = batch
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # takes no connections
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(InputError, match=f"no Dask scheduler can be reached at {address}"):
            run(dask_runner(address), todo, task(tmp_path))
    for wrong in ("nonsense://x:1", "tcp://", "tls://127.0.0.1:1", str(tmp_path / "none.json")):
        with pytest.raises(InputError, match=r"no Dask scheduler|is no scheduler file|names none"):
            run(dask_runner(wrong), todo, task(tmp_path))


def test_what_does_not_go_together_is_refused(monkeypatch):
    for address, workers in (("local", -1), ("tcp://127.0.0.1:1", 2)):
        with pytest.raises(InputError, match="workers cannot be started"):
            dask_runner(address, workers)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"napari-sparseseg\[distributed\]"):
        dask_runner("local")


def test_a_worker_that_is_killed_in_a_case_costs_none(client, batch, tmp_path):
    todo, task, expected = batch
    work = dask_runner(client.scheduler.address)(todo, task(tmp_path / "out"))
    pipe = Path(todo[-1].files[0])
    with pipe_at(pipe):
        items, end = until_read(work, pipe)
        kill_worker_at(client, 10)
    os.close(end)
    items += work
    assert left_in(tmp_path / "out") == expected
    records = [item for item in items if isinstance(item, BatchRecord)]
    assert sorted(record.name for record in records) == sorted(source.name for source in todo)
    assert sum(bool(record.error) for record in records) == 2
    told = [item.text for item in items if isinstance(item, Noted)]
    assert any("1 Dask worker was lost" in text for text in told)


def test_a_case_that_ends_its_workers_fails_and_the_others_do_not(client, batch, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sparseseg.batch_dask._TRIES", 1)
    todo, task, expected = batch
    work = dask_runner(client.scheduler.address)(todo[2:6], task(tmp_path))
    pipe = Path(todo[2].files[0])
    with pipe_at(pipe):
        items, end = until_read(work, pipe)
        kill_worker_at(client, 1)
    os.close(end)
    items += work
    records = {item.name: item for item in items if isinstance(item, BatchRecord)}
    assert [name for name, record in records.items() if record.error] == ["c0"]
    assert "c0 lost its Dask worker 1 times" in records["c0"].error
    found = left_in(tmp_path)
    assert found["records/c0.json"]["error"] == records["c0"].error
    assert found["records/c0.json"]["input_hash"] == expected["records/c0.json"]["input_hash"]
    assert {name: expected[name] for name in found if "c0" not in name} == {
        name: found[name] for name in found if "c0" not in name
    }
    assert not (tmp_path / "c0.nii.gz").exists()
