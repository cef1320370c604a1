"""Segmenting many volumes in the worker process."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from batch_models import write_image, write_model

from napari_sparseseg.batch_job import BatchJob
from napari_sparseseg.batch_ledger import read_record
from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.cohort_events import BatchCaseDone, BatchFinished
from napari_sparseseg.cohort_requests import PredictBatch
from napari_sparseseg.events import Failed
from napari_sparseseg.messages import Message
from napari_sparseseg.settings import InferenceConfig
from napari_sparseseg.worker_desk import JOBS, Desk


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """A request for two volumes, and a third that cannot be read."""
    folder = tmp_path_factory.mktemp("batch")
    for number, name in enumerate(("a", "c")):
        (folder / "scans").mkdir(exist_ok=True)
        write_image(folder / "scans" / f"{name}.nii.gz", seed=number)
    (folder / "scans" / "b.nii.gz").write_bytes(b"no volume")
    model = write_model(folder / "model")
    return PredictBatch(
        (str(folder / "scans"),), str(model), str(folder / "masks"), BatchConfig(),
        InferenceConfig(device="cpu"),
    )  # fmt: skip


def test_volumes_are_segmented_measured_and_gone_on_with(batch):
    job = BatchJob(batch)
    work = job.run()
    first = next(event for event in work if isinstance(event, BatchCaseDone) and not event.error)
    work.close()
    job.close()
    events = list(BatchJob(batch).run())
    cases = {event.name: event for event in events if isinstance(event, BatchCaseDone)}
    assert sorted(cases) == ["a", "b", "c"]
    assert cases[first.name].skipped
    assert "b.nii.gz" in cases["b"].error
    assert cases["b"].volumes_ml == {}
    for name in ("a", "c"):
        record = read_record(Path(batch.out), name)
        assert cases[name].volumes_ml == record.volumes_ml != {}
        assert cases[name].uncertainty == record.uncertainty
        assert np.isfinite(cases[name].uncertainty)
    skipped = sum(case.skipped for case in cases.values())
    report = Path(batch.out, "report.html")
    assert events[-1] == BatchFinished(str(report), 2 - skipped, skipped, 1)
    assert report.exists()


def test_the_worker_knows_batches_and_survives_their_mistakes(batch, tmp_path):
    sent = []
    desk = Desk(JOBS, lambda event, generation: sent.append((event, generation)))
    with closing(desk):
        missing = PredictBatch(batch.sources, str(tmp_path), batch.out, batch.config, batch.inference)
        desk.take(Message(missing, 1))
        while not desk.idle:
            desk.advance()
        assert isinstance(sent[0][0], Failed)
        assert not sent[0][0].ended
        desk.take(Message(batch, 2))
        while not desk.idle:
            desk.advance()
    assert isinstance(sent[-1][0], BatchFinished)
    assert sent[-1][1] == 2
