"""Encoders on disk, and what a network takes over of them."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_encoders import SUMMARY, make_encoder

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.classifier import Classifier, build_classifier, save_classifier
from napari_sparseseg.encoder_checkpoint import load_encoder, save_encoder
from napari_sparseseg.encoder_start import check_encoder, describe_encoder, hash_encoder, take_over
from napari_sparseseg.encoders import encoder_of
from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import NETWORKS, build_network, plan_network
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.settings import NetworkConfig

ONE_MM = (1.0, 1.0, 1.0)
_ENCODER = make_encoder()
_VALUES = st.sampled_from([None, "x", 3, [1], {}])


@pytest.mark.parametrize("architecture", NETWORKS)
def test_an_encoder_comes_back_as_it_was_saved(architecture, tmp_path):
    encoder = make_encoder(NetworkConfig(architecture), channels=2)
    save_encoder(tmp_path, encoder)
    again = load_encoder(tmp_path)
    assert again.weights.keys() == encoder.weights.keys()
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in encoder.weights.items())
    for name in ("task", "config", "plan", "channels", "spacing", "normalisation", "summary"):
        assert getattr(again, name) == getattr(encoder, name)
    assert hash_encoder(again) == hash_encoder(encoder)
    image = torch.randn(1, 2, *encoder.plan.patch)
    for one, other in zip(again.build()(image), encoder.build()(image), strict=True):
        assert torch.equal(one, other)


def test_the_encoder_of_a_classifier_is_one(tmp_path):
    config = NetworkConfig()
    plan = plan_network((18, 18, 18), ONE_MM, config, 12**3)
    table = ClassTable.from_values([2, 7])
    network = build_classifier(config, plan, 2, 1, table)
    classifier = Classifier(
        config, plan, 2, 1, table, ONE_MM, Normalisation((None,)), (18, 18, 18),
        network.state_dict(), {"cases": ["a"], "steps": 1},
    )  # fmt: skip
    save_classifier(tmp_path, classifier)
    encoder = load_encoder(tmp_path)
    assert encoder.task == "classifier"
    assert describe_encoder(encoder) == "The encoder (classifier, 1 volume, 1 step)"
    image = torch.randn(1, 1, *plan.patch)
    with torch.no_grad():
        assert torch.equal(encoder.build()(image)[-1], network.eval().features(image))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "another"}, "not a napari-sparseseg encoder"),
        ({"format_version": 99}, "install the version"),
        ({"channels": True}, "not a usable encoder"),
        ({"channels": 2}, "not a usable encoder"),
        ({"spacing_mm_zyx": [1, 1, 0]}, "not a usable encoder"),
        ({"network": {"size": "medium"}}, "do not fit the network"),
        ({"sha256": "another"}, "damaged"),
    ],
)
def test_what_is_damaged_is_refused_in_a_sentence(tmp_path, change, words):
    save_encoder(tmp_path, make_encoder())
    file = tmp_path / "encoder.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(InputError, match=words):
        load_encoder(tmp_path)
    with pytest.raises(InputError, match=r"no readable encoder\.json"):
        load_encoder(tmp_path / "nowhere")


@pytest.mark.parametrize("weights", [{}, {"weight": torch.zeros(2)}, {"stages.x.weight": torch.zeros(2)}])
def test_weights_of_something_else_are_refused_in_a_sentence(weights, tmp_path):
    save_encoder(tmp_path, replace(make_encoder(), weights=weights))
    with pytest.raises(InputError, match="do not fit the network"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_parameters_that_were_filled_are_named(levels):
    encoder = make_encoder(levels=levels)
    network = build_network(encoder.config, encoder.plan, 1, 3)
    state = torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    taken = take_over(encoder, network, encoder.plan, encoder.spacing)
    assert torch.equal(torch.get_rng_state(), state)
    parameters = dict(network.named_parameters())
    changed = {name for name in parameters if not torch.equal(parameters[name], before[name])}
    assert changed <= taken.names
    inside = encoder_of(network, encoder.plan).first_levels(levels)
    wanted = {id(parameter) for parameter in inside.parameters()}
    assert {id(parameters[name]) for name in taken.names} == wanted
    left = any("level" in words for words in taken.sentence.split("; ")[1:])
    assert left == (levels < len(encoder.plan.strides))


def test_voxels_of_another_size_are_told():
    encoder = make_encoder()
    network = build_network(encoder.config, encoder.plan, 1, 3)
    far = take_over(encoder, network, encoder.plan, (5.0, 1.0, 1.0)).sentence
    assert far.endswith(
        "It learnt at voxels of 1 × 1 × 1 mm and these are of 5 × 1 × 1 mm, so it may help less."
    )
    near = take_over(encoder, network, encoder.plan, (1.2, 0.8, 1.0)).sentence
    assert "mm" not in near


def test_what_cannot_be_started_from_is_refused_in_a_sentence():
    encoder = make_encoder(NetworkConfig("unet", "medium"))
    check_encoder(encoder, NetworkConfig("unet", "medium"), 1)
    with pytest.raises(InputError, match="of a medium unet and the network to train is a small dynunet"):
        check_encoder(encoder, NetworkConfig("dynunet"), 1)
    with pytest.raises(InputError, match="takes 1 channels and the image has 3"):
        check_encoder(encoder, NetworkConfig("unet", "medium"), 3)
    other = NetworkConfig("dynunet")
    plan = plan_network((18, 18, 18), ONE_MM, other, 12**3)
    with pytest.raises(InputError, match="does not fit the network"):
        take_over(encoder, build_network(other, plan, 1, 2), plan, ONE_MM)


def test_the_hash_is_of_the_weights_alone():
    encoder = make_encoder()
    same = replace(encoder, summary={}, weights=dict(reversed(encoder.weights.items())))
    assert hash_encoder(encoder) == hash_encoder(same) != hash_encoder(make_encoder(seed=8))
    assert hash_encoder(None) == ""
    name, tensor = next(iter(encoder.weights.items()))
    other = replace(encoder, weights={**encoder.weights, name: tensor + 1e-6})
    assert hash_encoder(other) != hash_encoder(encoder)


@given(
    st.dictionaries(st.sampled_from(["volumes", "cases", "steps"]), st.sampled_from([None, "x", 3, [1], {}]))
)
def test_whatever_a_summary_holds_an_encoder_has_a_name(summary):
    words = describe_encoder(replace(_ENCODER, summary=summary))
    assert words.startswith("The encoder (masked_autoencoder")
    assert describe_encoder(replace(_ENCODER, summary=SUMMARY)).endswith("3 volumes, 2,000 steps)")
