import functools
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.checkpoint import Model, save_model
from napari_sparseseg.classifier import (
    Classifier,
    build_classifier,
    load_classifier,
    load_subject,
    save_classifier,
)
from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import NETWORKS, NetworkPlan, build_network, plan_network
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.settings import NetworkConfig

TABLE = ClassTable.from_values([3, 7], {3: "liver"})
PLAN = NetworkPlan((16, 16, 16), ((1, 1, 1), (2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 3)


@functools.cache
def make(architecture="unet", level=2, channels=2):
    config = NetworkConfig(architecture=architecture)
    network = build_classifier(config, PLAN, level, channels, TABLE)
    return Classifier(
        config, PLAN, level, channels, TABLE, (2.0, 1.0, 1.5), Normalisation(((0.0, 1.0, 0.5, 0.2), None)),
        (20, 30, 40), network.state_dict(), {"steps": 3},
    )  # fmt: skip


@pytest.fixture
def saved(tmp_path):
    save_classifier(tmp_path, make())
    return tmp_path


def change(folder, **values):
    path = folder / "classifier.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("level", [1, 2, 3])
def test_the_answer_is_linear_in_the_mean_of_the_features(name, level):
    network = make(name, level).build()
    image = torch.randn(2, 2, 15, 16, 18)
    with torch.no_grad():
        features = network.features(image)
        maps = torch.einsum("kf,bfzyx->bkzyx", network.head.weight, features)
        assert features.shape[2:] == tuple(
            -(-n // s) for n, s in zip(image.shape[2:], network.encoder.strides[level - 1], strict=True)
        )
        torch.testing.assert_close(network(image), maps.mean((2, 3, 4)) + network.head.bias)
    assert len(network.encoder.stages) == level


def test_the_encoder_has_no_more_levels():
    for level in (0, 4):
        with pytest.raises(InputError, match="3 levels and no level"):
            build_classifier(NetworkConfig(), PLAN, level, 1, TABLE)


def test_a_saved_classifier_is_the_same(saved):
    torch.manual_seed(1)
    first = make()
    save_classifier(saved, first)
    second = load_classifier(saved)
    for name in (
        "config",
        "plan",
        "level",
        "channels",
        "table",
        "spacing",
        "normalisation",
        "window",
        "summary",
    ):
        assert getattr(second, name) == getattr(first, name)
    image = torch.randn(1, 2, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(first.build()(image), second.build()(image))


def test_a_classifier_of_large_pictures_can_be_read(tmp_path):
    config, shape = NetworkConfig(), (1, 1500, 1100)
    plan = plan_network(shape, (1.0, 1.0, 1.0), config, 64**3)
    network = build_classifier(config, plan, 2, 1, TABLE)
    normalisation = Normalisation((None,))
    saved = Classifier(
        config, plan, 2, 1, TABLE, (1.0, 1.0, 1.0), normalisation, shape, network.state_dict(), {}
    )
    save_classifier(tmp_path, saved)
    loaded = load_classifier(tmp_path)
    assert loaded.window == shape
    assert loaded.plan == plan


def test_the_subject_is_what_the_folder_holds(saved, tmp_path_factory):
    assert isinstance(load_subject(saved), Classifier)
    folder = tmp_path_factory.mktemp("model")
    network = build_network(NetworkConfig(), PLAN, 1, 3)
    normalisation = Normalisation((None,))
    model = Model(
        NetworkConfig(), PLAN, 1, False, TABLE, (1.0, 1.0, 1.0), normalisation, network.state_dict(), {}
    )
    save_model(folder, model)
    assert isinstance(load_subject(folder), Model)
    with pytest.raises(InputError, match="training wrote"):
        load_subject(folder / "nothing")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format": "a song"}, "not a napari-sparseseg classifier"),
        ({"format_version": 2}, "install the version"),
        ({"level": 9}, "no level 9"),
        ({"level": True}, "no whole number"),
        ({"level": 3}, "do not fit"),
        ({"channels": 1}, "differ in number"),
        ({"channels": "2"}, "no whole number"),
        ({"window_zyx": [1, 2]}, "not a usable classifier"),
        ({"window_zyx": [0, 2, 3]}, "no whole number"),
        ({"spacing_mm_zyx": [1, 2, -3]}, "three lengths"),
        ({"spacing_mm_zyx": None}, "not a usable classifier"),
        ({"summary": 3}, "not a usable classifier"),
        ({"network": {"architecture": "resnet"}}, "one of"),
        ({"plan": {}}, "plan"),
    ],
)
def test_a_damaged_description_is_told(saved, values, words):
    change(saved, **values)
    with pytest.raises(InputError, match=words):
        load_classifier(saved)


def test_a_damaged_file_is_told(saved):
    tensors = saved / "classifier.safetensors"
    contents = bytearray(tensors.read_bytes())
    contents[len(contents) // 2] ^= 1
    tensors.write_bytes(bytes(contents))
    with pytest.raises(InputError, match="damaged"):
        load_classifier(saved)
    tensors.unlink()
    with pytest.raises(InputError, match=r"no readable classifier\.safetensors"):
        load_classifier(saved)


@pytest.fixture(scope="module")
def usable(tmp_path_factory):
    """A folder with a classifier, and its description."""
    folder = tmp_path_factory.mktemp("classifier")
    save_classifier(folder, make())
    return folder, (folder / "classifier.json").read_text()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    name=st.sampled_from(
        ["level", "channels", "window_zyx", "spacing_mm_zyx", "summary", "plan", "network", "classes",
         "normalisation"]
    ),
    value=VALUES,
)  # fmt: skip
def test_no_description_breaks_the_reader(usable, name, value):
    folder, description = usable
    (folder / "classifier.json").write_text(description)
    change(folder, **{name: value})
    try:
        loaded = load_classifier(folder)
    except InputError:
        return
    loaded.build()
