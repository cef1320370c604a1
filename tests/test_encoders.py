import pytest
import torch
from torch import nn

from napari_sparseseg.encoders import copy_encoder, encoder_of
from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import NETWORKS, NetworkPlan, build_network, plan_network
from napari_sparseseg.settings import NetworkConfig

PLAN = NetworkPlan((16, 16, 16), ((1, 1, 1), (2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 3)
FLAT = NetworkPlan((8, 16, 16), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), ((1, 3, 3), (3, 3, 3), (3, 3, 3)))


def build(name, plan=PLAN, channels=1):
    return NETWORKS[name](plan, 4, channels, 3)


def plans(name):
    return [PLAN] if name == "segresnet" else [PLAN, FLAT]


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_those_that_the_network_computes(name):
    for plan in plans(name):
        network = build(name, plan).eval()
        encoder = encoder_of(network, plan)
        seen = []
        for module in network.modules():
            module.register_forward_hook(lambda module, inputs, output, into=seen: into.append(output))
        image = torch.randn(2, 1, *plan.patch)
        with torch.no_grad():
            network(image)
            inside = list(seen)
            features = encoder(image)
        assert len(features) == len(encoder.strides) == len(encoder.channels)
        for level in features:
            assert any(other.shape == level.shape and torch.equal(other, level) for other in inside)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(16, 16, 16), (13, 18, 9)])
def test_strides_and_channels_say_what_the_features_are(name, shape):
    for plan in plans(name):
        encoder = encoder_of(build(name, plan), plan)
        for level, stride, channels in zip(
            encoder(torch.randn(1, 1, *shape)), encoder.strides, encoder.channels, strict=True
        ):
            sizes = tuple(-(-n // s) for n, s in zip(shape, stride, strict=True))
            assert level.shape == (1, channels, *sizes)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_feature_lies_at_its_number_times_the_stride(name):
    encoder = encoder_of(build(name), PLAN)
    for module in encoder.modules():  # what is left looks at nothing but a neighbourhood
        if isinstance(module, nn.InstanceNorm3d):
            module.forward = lambda x: x
    image = torch.randn(1, 1, 33, 33, 33, requires_grad=True)
    for level, stride in zip(encoder(image), encoder.strides, strict=True):
        middle = [16 // s for s in stride]
        (gradient,) = torch.autograd.grad(
            level[0, :, middle[0], middle[1], middle[2]].sum(), image, retain_graph=True
        )
        touched = gradient[0, 0].abs().sum((1, 2)).nonzero().flatten()
        assert (touched[0] + touched[-1]) / 2 == 16 // stride[0] * stride[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_shares_the_weights(name):
    network = build(name)
    encoder = encoder_of(network, PLAN)
    inside = {id(parameter) for parameter in network.parameters()}
    assert {id(parameter) for parameter in encoder.parameters()} <= inside


@pytest.mark.parametrize("name", NETWORKS)
def test_an_encoder_is_copied_whole(name):
    source, target = encoder_of(build(name), PLAN), build(name)
    report = copy_encoder(source, target, PLAN)
    copy = encoder_of(target, PLAN)
    assert report.copied == len(source.state_dict())
    assert report.left == report.partly == report.unused == report.rescaled == ()
    assert report.sentence("It") == f"It was taken over: {report.copied} of {report.copied} weights."
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        for one, other in zip(source.eval()(image), copy.eval()(image), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("name", NETWORKS)
def test_with_position_the_channels_of_the_image_are_copied(name):
    source, target = encoder_of(build(name, channels=2), PLAN), build(name, channels=5)
    before = {key: value.clone() for key, value in encoder_of(target, PLAN).state_dict().items()}
    report = copy_encoder(source, target, PLAN)
    assert report.left == ()
    assert all(source.state_dict()[key].shape[1] == 2 for key in report.partly)
    assert report.partly
    assert report.sentence("It").endswith("; left as they were: the first convolution's position channels.")
    for key, value in encoder_of(target, PLAN).state_dict().items():
        known = source.state_dict()[key]
        if known.shape != value.shape:
            assert torch.equal(value[:, :2], known)
            assert torch.equal(value[:, 2:], before[key][:, 2:])
        else:
            assert torch.equal(value, known)


def test_what_does_not_fit_is_left_and_named():
    source = encoder_of(build("unet"), PLAN).first_levels(2)
    report = copy_encoder(source, encoder_of(build("unet"), PLAN), PLAN)
    assert report.copied == len(source.state_dict())
    assert report.left
    assert all(name.startswith("stages.2.") for name in report.left)
    total = report.copied + len(report.left)
    assert report.sentence("It") == (
        f"It was taken over: {report.copied} of {total} weights; left as they were: level 3."
    )
    back = copy_encoder(encoder_of(build("unet"), PLAN), source, PLAN)
    assert back.sentence("It").endswith("weights; not used of it: level 3.")
    other = copy_encoder(encoder_of(build("dynunet"), PLAN), build("unet"), PLAN)
    assert other.copied == 0
    assert copy_encoder(encoder_of(build("unet", channels=2), PLAN), build("unet"), PLAN).left


def test_levels_that_look_at_another_scale_are_told():
    coarse = NetworkPlan((16, 16, 16), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 3)
    source, target = encoder_of(build("dynunet", coarse), coarse), encoder_of(build("dynunet"), PLAN)
    report = copy_encoder(source, target, PLAN)
    assert report.left == ()
    assert report.rescaled == (2, 3)
    assert "levels 2 and 3 look at another scale" in report.sentence("It")
    deeper = copy_encoder(encoder_of(build("dynunet", FLAT), FLAT), target, PLAN)
    assert set(deeper.left) & set(target.state_dict())  # kernels of another shape
    assert " in level 1" in deeper.sentence("It")


def test_the_deepest_level_within_a_stride():
    config = NetworkConfig()
    plan = plan_network((64, 64, 64), (1.0, 1.0, 1.0), config, 64**3)
    encoder = encoder_of(build_network(config, plan, 1, 2), plan)
    assert [encoder.deepest_level(stride) for stride in (1, 2, 4, 8, 16)] == [1, 1, 2, 4, 4]


def test_another_network_is_refused():
    with pytest.raises(InputError, match="Linear has no encoder"):
        encoder_of(nn.Linear(1, 1), PLAN)
