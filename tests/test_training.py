import hashlib
import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from phantoms import TABLE, fix_precision, make_case, mean_dice, short_training
from random_encoders import make_encoder

from napari_sparseseg import training_data, training_loop
from napari_sparseseg.annotation import ClassTable, source_code
from napari_sparseseg.cases import prepare_case
from napari_sparseseg.encoders import encoder_of
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import HeldOutScored, Noted, PreviewReady, StepDone, finish
from napari_sparseseg.image_labels import ImageLabel
from napari_sparseseg.inference import predict_volume
from napari_sparseseg.networks import NETWORKS
from napari_sparseseg.settings import InferenceConfig, NetworkConfig
from napari_sparseseg.training import train_network


@pytest.fixture(autouse=True)
def _fixed_precision(monkeypatch):
    """Leave out the measurement: which format is faster differs from run to run."""
    fix_precision(monkeypatch)


def train(cases, config, **others):
    """Return the result of a training, and its events."""
    events = []
    result = finish(train_network(cases, TABLE, config, **others), events.append)
    return result, events


def same_weights(first, second):
    assert first.model.weights.keys() == second.model.weights.keys()
    return all(torch.equal(t, second.model.weights[name]) for name, t in first.model.weights.items())


def losses(events):
    return [event.loss for event in events if isinstance(event, StepDone)]


def test_a_network_learns_the_rest_of_a_volume_from_three_slices():
    case, truth = make_case()
    result, events = train([case], short_training(steps=80))
    steps = losses(events)
    assert len(steps) == 80
    assert np.mean(steps[-10:]) < 0.5 * np.mean(steps[:10])
    prediction = finish(predict_volume(result.model, case.image, case.spacing, InferenceConfig(device="cpu")))
    assert mean_dice(truth, prediction.channels, case.annotation == 0) > 0.8
    assert result.model.summary["steps"] == 80
    assert result.model.summary["labelled_voxels"] == 3 * 18 * 18
    assert result.held_out_dice.keys() == {"network"}  # there was no preview to measure


@pytest.mark.parametrize("architecture", sorted(set(NETWORKS) - {"unet"}))
def test_every_architecture_trains(architecture):
    case, _ = make_case()
    config = short_training(steps=12, patch_voxels=8**3)
    result, events = train([case], config, network_config=NetworkConfig(architecture))
    assert np.isfinite(losses(events)).all()
    assert losses(events)[-1] < losses(events)[0]
    result.model.build()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    case, _ = make_case()
    config = short_training(steps=6)
    first, second = (train([case], config)[0] for _ in range(2))
    assert same_weights(first, second)
    assert not same_weights(first, train([case], replace(config, seed=1))[0])


@pytest.mark.parametrize(
    ("stop_after", "axial", "preview_weight"),
    [(4, (5, 9, 12), 0.0), (16, (5, 9, 12), 0.0), (4, (5, 9), 0.5), (16, tuple(range(2, 16)), 0.0)],
    ids=[
        "while labels are held out",
        "after they have returned",
        "with a preview",
        "few held out to the end",
    ],
)
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, stop_after, axial, preview_weight):
    case, _ = make_case(axial=axial)
    config = short_training(steps=20, final_share=0.5, preview_weight=preview_weight, patch_voxels=8**3)
    whole, events = train([case], config)
    assert any(isinstance(event, HeldOutScored) for event in events)
    work = train_network([case], TABLE, config, state_folder=tmp_path)
    for event in work:
        if isinstance(event, StepDone) and event.step == stop_after:
            break
    work.close()
    assert (tmp_path / "state.json").is_file()
    resumed, rest = train([case], config, state_folder=tmp_path, resume=True)
    assert losses(rest) == losses(events)[stop_after:]
    assert same_weights(whole, resumed)
    assert resumed.held_out_dice == whole.held_out_dice
    again, nothing = train([case], config, state_folder=tmp_path, resume=True)  # its model was not written
    assert losses(nothing) == []
    assert same_weights(whole, again)


def test_stopping_after_every_step_never_changes_the_result(tmp_path):
    case, _ = make_case()
    config = short_training(steps=5, patch_voxels=8**3)
    whole, _ = train([case], config)
    resumed = None
    for attempt in range(6):
        work = train_network([case], TABLE, config, state_folder=tmp_path, resume=attempt > 0)
        resumed = run_to_next_step(work)
        work.close()
    assert same_weights(whole, resumed)


def run_to_next_step(work):
    """Return the result of `work` where it ends before another training step."""
    try:
        while not isinstance(next(work), StepDone):
            pass
    except StopIteration as stop:
        return stop.value


def test_resuming_with_other_labels_is_refused(tmp_path):
    case, _ = make_case()
    config = short_training(steps=5)
    work = train_network([case], TABLE, config, state_folder=tmp_path)
    next(work)
    work.close()
    other, _ = make_case(axial=(5, 9))
    for cases, settings in (([other], config), ([case], replace(config, seed=3)), ([case, case], config)):
        with pytest.raises(InputError, match="other volumes, labels or settings"):
            train(cases, settings, state_folder=tmp_path, resume=True)
    with pytest.raises(InputError, match="no readable"):
        train([case], config, state_folder=tmp_path / "nothing", resume=True)


def test_a_state_written_before_there_were_settings_for_class_maps_can_be_resumed(tmp_path):
    case, _ = make_case()
    config = short_training(steps=5)
    whole, _ = train([case], config)
    work = train_network([case], TABLE, config, state_folder=tmp_path)
    run_to_next_step(work)
    work.close()
    path = tmp_path / "state.json"
    description = json.loads(path.read_text())
    prepared = prepare_case(case, whole.model.normalisation, case.spacing)
    settings = repr((config, NetworkConfig(), TABLE, whole.model.plan))
    later = ", encoder_rate=0.1, encoder_share=0.2, seeding=1.0, expansion=0.0, constraint=0.0"
    before, after = settings.split(later)
    digest = hashlib.sha256((before + after).encode())
    digest.update(prepared.annotation.tobytes())
    digest.update(np.ascontiguousarray(prepared.image[:, ::4, ::4, ::4]).tobytes())
    del description["encoder"]
    path.write_text(json.dumps({**description, "data": digest.hexdigest()}))
    resumed, _ = train([case], config, state_folder=tmp_path, resume=True)
    assert same_weights(whole, resumed)


def test_it_is_said_when_only_labels_of_the_program_could_be_held_out():
    case, _ = make_case()
    for source, derived in (("cam", True), ("stroke", False)):
        sources = np.where(case.annotation > 0, source_code(source), 0).astype(np.uint8)
        result, _ = train([replace(case, sources=sources)], short_training(steps=2))
        assert result.held_out_dice
        assert result.measured_by_derived is derived
        assert result.model.summary["measured_by_derived"] is derived


def test_a_damaged_state_is_refused(tmp_path):
    case, _ = make_case()
    config = short_training(steps=5)
    work = train_network([case], TABLE, config, state_folder=tmp_path)
    next(work)
    work.close()
    with (tmp_path / "state.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="damaged"):
        train([case], config, state_folder=tmp_path, resume=True)


def test_a_warm_start_begins_with_a_lower_loss():
    case, _ = make_case()
    trained, cold = train([case], short_training(steps=60))
    other, _ = make_case(seed=5, shift=1)
    result, warm = train([other], short_training(steps=5, seed=1), initial=trained.model)
    assert np.mean(losses(warm)) < 0.6 * np.mean(losses(cold)[:5])
    assert result.model.plan == trained.model.plan
    assert not same_weights(result, trained)


def test_several_volumes_of_different_shape_and_spacing_train_one_network():
    first, _ = make_case(16)
    second, truth = make_case(20, seed=1, axial=(1, 6, 10, 18), spacing=(1.0, 1.0, 1.6))
    result, _ = train([first, second], short_training(steps=150, held_out_share=0.0))
    assert result.model.spacing == pytest.approx((1.0, 1.0, 1.3))
    prediction = finish(
        predict_volume(result.model, second.image, second.spacing, InferenceConfig(device="cpu"))
    )
    assert prediction.channels.shape == truth.shape
    assert mean_dice(truth, prediction.channels) > 0.6
    assert result.held_out_dice == {}


def test_thick_slices_of_one_volume_are_told_their_position():
    case, _ = make_case(spacing=(5.0, 1.0, 1.0))
    result, _ = train([case], short_training(steps=3))
    assert result.model.position
    prediction = finish(predict_volume(result.model, case.image, case.spacing, InferenceConfig(device="cpu")))
    assert prediction.channels.shape == case.annotation.shape


def test_training_by_the_clock_ends_in_time():
    case, _ = make_case()
    start = time.monotonic()
    result, events = train([case], short_training(steps=0, seconds=1.5))
    assert 1.4 < time.monotonic() - start < 6
    progress = [event.progress for event in events if isinstance(event, StepDone)]
    assert progress == sorted(progress)
    assert result.model.summary["steps"] == len(progress) > 3


def test_the_preview_comes_before_the_first_step_and_teaches():
    case, truth = make_case()
    config = short_training(steps=4, preview_weight=0.5)
    result, events = train([case], config)
    assert isinstance(events[0], PreviewReady)
    assert events[0].channels.shape == truth.shape
    assert mean_dice(truth, events[0].channels) > 0.5
    assert result.previews[0] is not None
    assert not same_weights(result, train([case], replace(config, preview_weight=0.0))[0])


def test_the_weight_of_a_label_counts():
    case, _ = make_case()
    weights = np.ones(case.annotation.shape, np.float32)
    config = short_training(steps=3)
    plain = train([case], config)[0]
    assert same_weights(plain, train([replace(case, weights=weights)], config)[0])
    weights[9] = 0.1
    assert not same_weights(plain, train([replace(case, weights=weights)], config)[0])


def wrong_cases():
    case, _ = make_case()
    labels, image = case.annotation, case.image
    return {
        "hold nothing; label background": [replace(case, annotation=labels * 0)],
        "no background": [replace(case, annotation=np.where(labels == 1, 0, labels))],
        "nothing but background": [replace(case, annotation=labels.clip(0, 1))],
        "on the image's grid": [replace(case, annotation=labels[1:])],
        "extend the class table": [replace(case, annotation=np.where(labels == 3, 4, labels))],
        "same channels": [case, replace(case, image=image.repeat(2, 0))],
        "one weight for each voxel": [replace(case, weights=np.ones((2, 2, 2), np.float32))],
        "hold nothing": [],
    }


@pytest.mark.parametrize(("sentence", "cases"), wrong_cases().items(), ids=wrong_cases())
def test_cases_that_cannot_be_trained_on_are_told_in_a_sentence(sentence, cases):
    with pytest.raises(InputError, match=sentence):
        train(cases, short_training(steps=2))


@pytest.mark.parametrize("length", [{"steps": 0}, {"steps": 5, "seconds": 5}])
def test_the_length_is_given_once(length):
    case, _ = make_case()
    with pytest.raises(InputError, match="one of the two"):
        train([case], short_training(**length))


def test_a_model_of_other_channels_or_classes_is_no_start():
    case, _ = make_case()
    model = train([case], short_training(steps=1))[0].model
    with pytest.raises(InputError, match="channels it was trained on"):
        train([replace(case, image=case.image.repeat(2, 0))], short_training(), initial=model)
    table = ClassTable.from_values([2, 3, 4])
    with pytest.raises(InputError, match="same classes"):
        finish(train_network([case], table, short_training(), initial=model))


def out_of_memory(monkeypatch, times):
    """Let the first `times` training steps fail as they do when a GPU's memory is full."""
    calls = []
    plain = training_loop.take_step

    def fail(learner, sampler, arrays, patch, *rest, **options):
        calls.append(patch)
        if len(calls) <= times:
            raise torch.cuda.OutOfMemoryError
        return plain(learner, sampler, arrays, patch, *rest, **options)

    monkeypatch.setattr(training_loop, "take_step", fail)
    return calls


def test_when_memory_runs_out_the_patch_shrinks(monkeypatch):
    case, _ = make_case(32)
    calls = out_of_memory(monkeypatch, 1)
    result, events = train([case], short_training(steps=3, patch_voxels=32**3))
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert notes == [
        f"The GPU's memory is too small; going on with patches of {result.model.plan.patch} voxels."
    ]
    assert np.prod(calls[1]) < np.prod(calls[0])
    assert result.model.summary["steps"] == 3


def test_a_training_whose_patch_shrank_can_be_resumed(monkeypatch, tmp_path):
    case, _ = make_case(32)
    config = short_training(steps=4, patch_voxels=32**3)
    out_of_memory(monkeypatch, 1)
    whole, _ = train([case], config)
    monkeypatch.undo()
    fix_precision(monkeypatch)
    with monkeypatch.context() as patched:
        out_of_memory(patched, 1)
        work = train_network([case], TABLE, config, state_folder=tmp_path)
        while not isinstance(next(work), StepDone):
            pass
        work.close()
    resumed, _ = train([case], config, state_folder=tmp_path, resume=True)
    assert resumed.model.plan == whole.model.plan
    assert same_weights(resumed, whole)


def test_when_no_patch_fits_the_cpu_takes_over(monkeypatch):
    case, _ = make_case()
    calls = out_of_memory(monkeypatch, 2)
    result, events = train([case], short_training(steps=3))
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert notes[-1] == "The GPU's memory is too small for any patch; going on with the CPU."
    assert len(calls) == 5
    assert result.model.summary["device"] == "cpu"


def test_held_out_labels_that_stay_out_give_the_best_weights_back():
    case, _ = make_case(axial=tuple(range(2, 16)))
    result, events = train([case], short_training(steps=30, held_out_share=0.1))
    scores = [event.dice for event in events if isinstance(event, HeldOutScored)]
    assert len(scores) >= 9
    assert result.held_out_dice["network"] == max(scores)


def test_share_zero_measures_nothing():
    case, _ = make_case()
    result, events = train([case], short_training(steps=5, held_out_share=0.0))
    assert not any(isinstance(event, HeldOutScored) for event in events)
    assert result.held_out_dice == {}


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 1.0, 1.0)], ids=["plain", "with position"])
def test_an_encoder_is_taken_over_and_told_of(spacing):
    case, _ = make_case(spacing=spacing)
    config = short_training(steps=1, learning_rate=1e-6)
    plain, _ = train([case], config)
    assert plain.model.position == (spacing[0] > 1)
    source = make_encoder(plan=plain.model.plan, spacing=spacing)
    taken, events = train([case], config, encoder=source)
    told = [event.text for event in events if isinstance(event, Noted)]
    (sentence,) = [
        text for text in told if text.startswith("The encoder (masked_autoencoder, 3 volumes, 2,0")
    ]
    assert taken.model.summary["encoder"] == sentence
    assert plain.model.summary["encoder"] == ""
    assert ("position channels" in sentence) == plain.model.position
    for name, tensor in encoder_weights(taken).items():
        known = source.weights[name]
        part = tensor[:, : known.shape[1]] if tensor.ndim == 5 else tensor
        torch.testing.assert_close(part, known, atol=1e-4, rtol=0)
    others = {name: t for name, t in taken.model.weights.items() if name.startswith("model.2")}
    assert others
    for name, tensor in others.items():  # the rest is as it would be without
        torch.testing.assert_close(tensor, plain.model.weights[name], atol=1e-4, rtol=0)


def test_an_encoder_of_another_network_is_refused():
    case, _ = make_case()
    config = short_training(steps=1)
    with pytest.raises(InputError, match="architecture segresnet and the size small"):
        train([case], config, encoder=make_encoder(NetworkConfig("segresnet")))
    with pytest.raises(InputError, match="takes 2 channels and the image has 1"):
        train([case], config, encoder=make_encoder(channels=2))
    initial = train([case], config)[0].model
    with pytest.raises(InputError, match="one of the two"):
        train([case], config, initial=initial, encoder=make_encoder())


def encoder_weights(result):
    return encoder_of(result.model.build(), result.model.plan).state_dict()


@pytest.mark.parametrize("architecture", NETWORKS)
def test_an_encoder_of_rate_zero_stays_as_it_was_in_the_first_share_only(architecture, monkeypatch):
    case, _ = make_case()
    network = NetworkConfig(architecture)
    config = short_training(steps=10, encoder_rate=0.0, encoder_share=0.5, held_out_share=0.0)
    seen, plain = [], training_loop.take_step

    def record(learner, *words, **options):
        loss = plain(learner, *words, **options)
        seen.append({name: tensor.clone() for name, tensor in learner.network.state_dict().items()})
        return loss

    monkeypatch.setattr(training_loop, "take_step", record)
    model = train([case], config, network_config=network, encoder=make_encoder(network))[0].model
    source, target = make_encoder(network, plan=model.plan).weights, model.build()
    trained = []
    for state in seen:
        target.load_state_dict(state)
        inner = encoder_of(target, model.plan).state_dict()
        trained.append([name for name, tensor in source.items() if not torch.equal(inner[name], tensor)])
    assert trained[:5] == [[]] * 5
    assert all(trained[5:])
    last = [*seen[0]][-1]
    assert not torch.equal(seen[0][last], seen[4][last])


def test_an_encoder_of_rate_one_learns_like_the_rest_and_of_another_does_not():
    case, _ = make_case()
    config = short_training(steps=4, encoder_share=1.0, encoder_rate=1.0)
    encoder = make_encoder()
    alike, _ = train([case], config, encoder=encoder)
    never, _ = train([case], replace(config, encoder_rate=0.1, encoder_share=0.0), encoder=encoder)
    gently, _ = train([case], replace(config, encoder_rate=0.1), encoder=encoder)
    assert same_weights(alike, never)
    assert not same_weights(alike, gently)
    without, _ = train([case], config)
    plain, _ = train([case], replace(config, encoder_rate=0.1))
    assert same_weights(without, plain)  # for there is no encoder


def test_a_gentle_training_that_is_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    case, _ = make_case()
    config = short_training(steps=8, encoder_share=0.5)
    encoder = make_encoder()
    whole, _ = train([case], config, encoder=encoder)
    work = train_network([case], TABLE, config, encoder=encoder, state_folder=tmp_path)
    for _ in range(2):
        run_to_next_step(work)
    work.close()
    for other in (None, make_encoder(seed=8)):
        with pytest.raises(InputError, match="another encoder"):
            train([case], config, encoder=other, state_folder=tmp_path, resume=True)
    resumed, events = train([case], config, encoder=encoder, state_folder=tmp_path, resume=True)
    assert next(event.step for event in events if isinstance(event, StepDone)) == 3
    assert not any("taken over" in event.text for event in events if isinstance(event, Noted))
    assert same_weights(whole, resumed)


def seeded(case):
    """The case with its last slice of labels as seeds."""
    sources = np.where(case.annotation > 0, source_code("stroke"), 0).astype(np.uint8)
    sources[12] = source_code("cam")
    return replace(case, sources=sources)


def test_without_seeding_seeds_are_as_good_as_unlabelled():
    case, _ = make_case()
    annotation = case.annotation.copy()
    annotation[12] = 0
    config = short_training(steps=6, seeding=0.0)
    first, _ = train([replace(case, annotation=annotation)], config)
    second, _ = train([seeded(case)], config)
    third, _ = train([seeded(case)], replace(config, seeding=1.0))
    assert same_weights(first, second)
    assert not same_weights(first, third)
    assert second.model.summary["labelled_voxels"] == 2 * 18 * 18
    every = replace(case, sources=np.full(case.annotation.shape, source_code("cam"), np.uint8))
    with pytest.raises(InputError, match="the labels hold nothing"):
        train([every], config)


def test_seeds_are_never_held_out(monkeypatch):
    chosen = []

    def choose(annotations, *others):
        chosen.extend(annotations)
        return plain(annotations, *others)

    plain = training_data.choose_held_out
    monkeypatch.setattr(training_data, "choose_held_out", choose)
    case, _ = make_case()
    train([seeded(case)], short_training(steps=1))
    assert not chosen[0][12].any()
    assert chosen[0][5].all()


@pytest.mark.parametrize("changed", ["image labels", "sources"])
def test_resuming_with_other_weak_labels_is_refused(tmp_path, changed):
    case, _ = make_case()
    case = replace(seeded(case), image_labels=(ImageLabel(2, True, 0, 4, 12),))
    config = short_training(steps=6, expansion=1.0)
    work = train_network([case], TABLE, config, state_folder=tmp_path)
    run_to_next_step(work)
    work.close()
    sources = np.where(case.annotation > 0, source_code("stroke"), 0).astype(np.uint8)
    other = (
        replace(case, image_labels=(ImageLabel(2, True, 0, 4, 13),))
        if changed == "image labels"
        else replace(case, sources=sources)
    )
    with pytest.raises(InputError, match="other volumes, labels or settings"):
        finish(train_network([other], TABLE, config, state_folder=tmp_path, resume=True))
    finish(train_network([case], TABLE, config, state_folder=tmp_path, resume=True))
