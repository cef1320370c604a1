import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from phantoms_ssl import make_sources, run_pretraining, short_pretraining
from torch import nn

from napari_sparseseg import pretraining
from napari_sparseseg.encoders import Encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Noted, PretextPictured, PretextScored, StepDone
from napari_sparseseg.networks import NetworkPlan, Precision, plan_network
from napari_sparseseg.pretext import Outcome, Picture, PretextTask
from napari_sparseseg.pretraining import PRETEXT_TASKS, fit_to_strides, pretrain
from napari_sparseseg.pretraining_settings import PRETEXT_TASKS as NAMES
from napari_sparseseg.pretraining_settings import TASK_SETTINGS, PretextConfig, PretrainingConfig
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.volume_pool import VolumeSource


class Halves(PretextTask):
    """Tells whether a piece was turned upside down; keeps a buffer, as tasks with state do."""

    def __init__(self, context):
        super().__init__(context, context.build_encoder())
        self.head = nn.Linear(self.encoder.summary_length, 2)
        self.register_buffer("turns", torch.zeros((), dtype=torch.int64))

    def draw(self, pool, random):
        pieces = pool.draw_pieces(random, self.context.crop, self.context.batch_size)
        flipped = torch.from_numpy(random.integers(0, 2, len(pieces)))
        turned = torch.stack([p.flip(1) if f else p for p, f in zip(pieces, flipped, strict=True)])
        return {"piece": turned, "flipped": flipped}

    def learn(self, batch):
        logits = self.head(self.embed(batch["piece"])).float()
        right = (logits.argmax(1) == batch["flipped"]).float().mean()
        return Outcome(nn.functional.cross_entropy(logits, batch["flipped"]), right, torch.tensor(0.5))

    def regroup(self, pool, random):
        self.turns += 1
        return [f"Grouped {int(self.turns)} with {pool.resident} {random.integers(1000)}"]

    def picture(self, batch):
        return [Picture("input", batch["piece"][0, 0].cpu().numpy())]


@pytest.fixture(autouse=True)
def _toy(monkeypatch):
    monkeypatch.setattr(pretraining, "PRETEXT_TASKS", {**PRETEXT_TASKS, "rotation": Halves})
    monkeypatch.setattr(pretraining, "_VIEWS", 4)  # whose figures are tested elsewhere


def learn(sources=None, **changes):
    return run_pretraining(sources or make_sources(5), short_pretraining("rotation", **changes))


def of_type(events, kind):
    return [event for event in events if isinstance(event, kind)]


def same_weights(one, other):
    return one.weights.keys() == other.weights.keys() and all(
        torch.equal(one.weights[name], other.weights[name]) for name in one.weights
    )


def test_every_task_is_there():
    assert set(PRETEXT_TASKS) == set(NAMES) == set(TASK_SETTINGS)


@pytest.mark.parametrize("task", NAMES)
def test_settings_name_the_tasks_that_use_them(task):
    helps = {name: entry.metadata["help"] for name, entry in PretextConfig.__dataclass_fields__.items()}
    named = {name for name, text in helps.items() if task in text.partition(":")[0].split(", ")}
    assert named == set(TASK_SETTINGS[task])


def test_an_encoder_comes_of_it():
    encoder, events = learn(steps=3)
    assert encoder.task == "rotation"
    assert encoder.channels == 1
    assert isinstance(encoder.build(), Encoder)
    assert len(encoder.summary["volumes"]) == 5
    assert encoder.summary["steps"] == 3
    assert len(encoder.summary["data_sha256"]) == 64
    assert [event.step for event in of_type(events, StepDone)] == [1, 2, 3]
    assert of_type(events, StepDone)[-1].progress == 1
    last = of_type(events, PretextScored)[-1]
    assert encoder.summary["scores"]["value"] == last.value
    assert last.step == 3


def test_it_learns_and_measures_on_volumes_kept_aside():
    _, events = learn(sources=make_sources(6), steps=60, learning_rate=5e-3)
    scores = of_type(events, PretextScored)
    assert not scores[-1].within_volume
    assert scores[-1].value > 0.8
    assert scores[-1].trivial == 0.5
    assert {event.images.shape[1:] for event in of_type(events, PretextPictured)} == {(16, 16, 16)}


def test_few_volumes_are_measured_on_themselves_and_it_is_told():
    _, events = learn(sources=make_sources(2), steps=1)
    assert all(score.within_volume for score in of_type(events, PretextScored))


def test_labelled_volumes_are_learnt_from():
    sources = [*make_sources(4, labelled=True), *make_sources(1, seed=3)]
    survey = pretraining._split(
        type("S", (), {"sources": sources, "labelled": [{1}] * 4 + [set()]})(), short_pretraining("rotation")
    )
    assert survey == ([0, 1, 2, 3], [4])


def test_same_seed_same_weights_and_other_seed_other_weights():
    one, _ = learn(steps=2)
    torch.rand(7)  # what else draws at random does not matter
    same, _ = learn(steps=2)
    other, _ = learn(steps=2, seed=1)
    assert same_weights(one, same)
    assert not same_weights(one, other)


def stop(sources, config, folder, *, where):
    work = pretrain(sources, config, state_folder=folder)
    next(event for event in work if where(event))
    work.close()


STOPS = {
    "after a step": lambda event: isinstance(event, StepDone) and event.step == 2,
    "before a turn": lambda event: isinstance(event, StepDone) and event.step == 4,
    "in a turn": lambda event: isinstance(event, Noted) and event.text.startswith("Grouped 2"),
    "in the first turn": lambda event: isinstance(event, Noted) and event.text.startswith("Grouped 1"),
    "measuring": lambda event: isinstance(event, PretextScored) and event.step == 4,
    "at the end": lambda event: isinstance(event, PretextScored) and event.step == 7,
}


@pytest.mark.parametrize(("where", "channels_last"), list(zip(STOPS, [True, False] * 3, strict=True)))
def test_stopped_and_gone_on_equals_uninterrupted(where, channels_last, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "TURN_STEPS", 4)
    monkeypatch.setattr(pretraining, "choose_precision", lambda *_: Precision("float32", channels_last))
    sources = make_sources(6, (44, 48, 48))  # of which two may stay in two megabytes
    config = short_pretraining("rotation", steps=7, memory_mb=2)
    whole, events = run_pretraining(sources, config)
    stop(sources, config, tmp_path, where=STOPS[where])
    assert (tmp_path / "state.json").exists()
    rest, further = run_pretraining(sources, config, state_folder=tmp_path, resume=True)
    assert same_weights(whole, rest)
    assert of_type(events, PretextScored)[-1] == of_type(further, PretextScored)[-1]
    assert list(further)  # the last figures at least
    told, told_later = ([note.text for note in of_type(some, Noted)] for some in (events, further))
    assert told_later == told[len(told) - len(told_later) :]


def test_what_was_kept_meanwhile_outlasts_a_killed_process(tmp_path, monkeypatch):
    sources, config = make_sources(2), short_pretraining("rotation", steps=4)
    whole, _ = run_pretraining(sources, config)
    monkeypatch.setattr(pretraining, "_SAVE_SECONDS", -1)
    work = pretrain(sources, config, state_folder=tmp_path / "left")
    next(event for event in work if isinstance(event, StepDone) and event.step == 3)
    shutil.copytree(tmp_path / "left", tmp_path / "found")  # before closing keeps more
    work.close()
    rest, events = run_pretraining(sources, config, state_folder=tmp_path / "found", resume=True)
    assert [event.step for event in of_type(events, StepDone)] == [3, 4]
    assert same_weights(whole, rest)


def test_another_training_is_not_gone_on_with(tmp_path):
    stop(make_sources(2), short_pretraining("rotation"), tmp_path, where=STOPS["after a step"])
    turned = make_sources(2)[::-1]
    for changed, sources in (({"seed": 1}, make_sources(2)), ({}, make_sources(3)), ({}, turned)):
        with pytest.raises(InputError, match="other volumes or settings"):
            run_pretraining(
                sources, short_pretraining("rotation", **changed), state_folder=tmp_path, resume=True
            )


def test_without_a_state_no_volume_is_read(tmp_path):
    unread = [VolumeSource("unread", None)]
    with pytest.raises(InputError, match=r"no readable state\.json"):
        run_pretraining(unread, short_pretraining("rotation"), state_folder=tmp_path, resume=True)


def test_a_finished_one_can_be_asked_for_its_encoder_again(tmp_path):
    sources, config = make_sources(2), short_pretraining("rotation", steps=2)
    first, _ = run_pretraining(sources, config, state_folder=tmp_path)
    again, events = run_pretraining(sources, config, state_folder=tmp_path, resume=True)
    assert same_weights(first, again)
    assert not of_type(events, StepDone)
    assert again.summary["scores"] == first.summary["scores"]


def test_a_damaged_state_is_told(tmp_path):
    sources, config = make_sources(2), short_pretraining("rotation")
    stop(sources, config, tmp_path, where=STOPS["after a step"])
    tensors, description = pretraining.read_tensors(tmp_path / "state")
    del tensors["task.head.bias"]
    pretraining.write_tensors(tmp_path / "state", tensors, description)
    with pytest.raises(InputError, match="damaged"):
        run_pretraining(sources, config, state_folder=tmp_path, resume=True)


@pytest.mark.parametrize("length", [{"steps": 0}, {"steps": 3, "seconds": 3.0}])
def test_a_length_is_needed(length):
    with pytest.raises(InputError, match="seconds or a number of steps"):
        learn(**length)


def test_the_clock_ends_it():
    encoder, events = learn(steps=0, seconds=1.0)
    assert encoder.summary["steps"] >= 1
    assert of_type(events, StepDone)[-1].progress <= 1


def test_divergence_is_told(monkeypatch):
    class Diverging(Halves):
        def learn(self, batch):
            outcome = super().learn(batch)
            return replace(outcome, loss=outcome.loss * float("inf"))

    monkeypatch.setattr(pretraining, "PRETEXT_TASKS", {"rotation": Diverging})
    with pytest.raises(InputError, match="diverged"):
        learn(steps=2)


def test_a_gpu_out_of_memory_learns_from_less_then_on_the_cpu(monkeypatch):
    class Hungry(Halves):
        def embed(self, pieces):  # as steps, figures and groups do
            if len(pieces) > 2:
                raise torch.cuda.OutOfMemoryError
            return super().embed(pieces)

        def regroup(self, pool, random):
            self.embed(pool.draw_pieces(random, self.context.crop, self.context.batch_size))
            return ()

    monkeypatch.setattr(pretraining, "PRETEXT_TASKS", {"rotation": Hungry})
    encoder, events = learn(steps=2)
    told = [note.text for note in of_type(events, Noted) if "memory" in note.text]
    assert ["4 pieces" in told[0], "2 pieces" in told[1]] == [True, True]
    assert encoder.summary["steps"] == 2


def test_volumes_are_streamed_within_the_budget(monkeypatch):
    """Of ten volumes of a megabyte with a budget of three no more than two are held."""
    monkeypatch.setattr(pretraining, "TURN_STEPS", 2)
    reads = []
    plain = make_sources(10, (60, 60, 62))
    sources = [VolumeSource(s.name, lambda s=s: (reads.append(s.name), s.read())[1]) for s in plain]
    pools = []
    real = pretraining.VolumePool.turn

    def watch(pool, number):
        real(pool, number)
        pools.append((pool, pool.resident))

    monkeypatch.setattr(pretraining.VolumePool, "turn", watch)
    learn(sources=sources, steps=8, memory_mb=3)
    learnt = pools[0][0]
    residents = [resident for pool, resident in pools if pool is learnt]
    assert len(residents) == 4
    assert all(len(resident) == 2 for resident in residents)
    assert len(set(residents)) > 1
    assert (
        len(reads) <= 10 + 1 + 2 + 4
    )  # to look at them, one to measure by, the first turn, one for each further


def test_thin_volumes_count_as_they_are_in_memory(monkeypatch):
    """A pair of slices is continued until the network can halve it."""
    held, real = [], pretraining.VolumePool.turn

    def watch(pool, number):
        real(pool, number)
        held.append([pool.image(volume).nbytes for volume in pool.resident])

    monkeypatch.setattr(pretraining.VolumePool, "turn", watch)
    learn(sources=make_sources(6, (2, 200, 200)), steps=1, memory_mb=2)
    assert held
    assert all(len(sizes) == 1 or sum(sizes) <= 2e6 for sizes in held)


@pytest.mark.parametrize(
    ("spacing", "shape"), [((1, 1, 1), (40, 50, 36)), ((5, 1, 1), (12, 200, 200)), ((1, 1, 1), (3, 9, 9))]
)
@pytest.mark.parametrize("architecture", ["unet", "dynunet", "segresnet"])
def test_pieces_fit_the_network(spacing, shape, architecture):
    plan = plan_network(shape, spacing, NetworkConfig(architecture=architecture), 64**3)
    size = fit_to_strides((7, 33, 20), plan)
    assert NetworkPlan.from_json({**plan.to_json(), "patch": size})  # which checks that strides divide it


@pytest.mark.parametrize("architecture", ["dynunet", "segresnet"])
def test_other_networks_learn_too(architecture):
    encoder, _ = run_pretraining(
        make_sources(2),
        short_pretraining("rotation", steps=1),
        network=NetworkConfig(architecture=architecture),
    )
    assert isinstance(encoder.build(), Encoder)


def test_settings_have_defaults_that_work():
    assert PretrainingConfig().task in NAMES
    assert np.isfinite(PretextConfig().temperature)
