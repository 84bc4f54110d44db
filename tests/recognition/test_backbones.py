import pytest
import torch

from recognition.backbones import get_backbone, names
from recognition.backbones.adaface_ir import AdaFaceIR

SMALL_ENOUGH = ["r18", "mbf", "small", "mini", "nano", "tiny"]


def arcface_r18_shapes() -> dict[str, tuple]:
    """Names and shapes of arcface_torch's iresnet18, written down from its description, not from our module."""
    shapes = {"conv1.weight": (64, 3, 3, 3), "prelu.weight": (64,)}

    def bn(name, width):
        for key in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{key}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()

    bn("bn1", 64)
    inputs = 64
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            bn(f"{name}.bn1", inputs)
            shapes[f"{name}.conv1.weight"] = (width, inputs, 3, 3)
            bn(f"{name}.bn2", width)
            shapes[f"{name}.prelu.weight"] = (width,)
            shapes[f"{name}.conv2.weight"] = (width, width, 3, 3)
            bn(f"{name}.bn3", width)
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (width, inputs, 1, 1)
                bn(f"{name}.downsample.1", width)
            inputs = width
    bn("bn2", 512)
    shapes |= {"fc.weight": (512, 512 * 49), "fc.bias": (512,)}
    bn("features", 512)
    return shapes


def test_r18_has_arcface_torchs_names_and_shapes():
    with torch.device("meta"):
        state = get_backbone("r18").state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == arcface_r18_shapes()


def adaface_shapes(units: tuple[int, ...]) -> dict[str, tuple]:
    """Names and shapes of AdaFace's IR networks, written down from its net.py, not from our module."""
    shapes = {"input_layer.0.weight": (64, 3, 3, 3), "input_layer.2.weight": (64,), "output_layer.3.bias": (512,)}
    shapes |= {"output_layer.3.weight": (512, 512 * 7 * 7)}

    def bn(name, width, affine=True):
        for key in ("weight", "bias") * affine + ("running_mean", "running_var"):
            shapes[f"{name}.{key}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()

    bn("input_layer.1", 64)
    bn("output_layer.0", 512)
    bn("output_layer.4", 512, affine=False)
    widths = [(64, 64)] * units[0] + [(64, 128)] + [(128, 128)] * (units[1] - 1)
    widths += [(128, 256)] + [(256, 256)] * (units[2] - 1) + [(256, 512)] + [(512, 512)] * (units[3] - 1)
    for block, (inputs, width) in enumerate(widths):
        name = f"body.{block}.res_layer"
        bn(f"{name}.0", inputs)
        shapes[f"{name}.1.weight"] = (width, inputs, 3, 3)
        bn(f"{name}.2", width)
        shapes[f"{name}.3.weight"] = (width,)
        shapes[f"{name}.4.weight"] = (width, width, 3, 3)
        bn(f"{name}.5", width)
        if inputs != width:  # else MaxPool2d(1, stride), which has none
            shapes[f"body.{block}.shortcut_layer.0.weight"] = (width, inputs, 1, 1)
            bn(f"body.{block}.shortcut_layer.1", width)
    return shapes


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("adaface_ir18", (2, 2, 2, 2)),
        ("adaface_ir34", (3, 4, 6, 3)),
        ("adaface_ir50", (3, 4, 14, 3)),
        ("adaface_ir101", (3, 13, 30, 3)),
    ],
)
def test_adaface_ir_has_adafaces_names_and_shapes(name, units):
    with torch.device("meta"):
        state = get_backbone(name).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == adaface_shapes(units)


def test_an_adaface_block_halves_the_side_once_and_its_shortcut_takes_every_second_pixel():
    network = get_backbone("adaface_ir18").eval()
    x = torch.randn(1, 64, 8, 8)
    first, second = network.body[0], network.body[1]
    with torch.inference_mode():
        assert torch.equal(first.shortcut_layer(x), x[:, :, ::2, ::2])
        assert first(x).shape == (1, 64, 4, 4) and second(x).shape == x.shape
        torch.testing.assert_close(first(x) - first.res_layer(x), x[:, :, ::2, ::2])
        h = network.input_layer(torch.randn(2, 3, 112, 112))
        assert [h.shape[2], *((h := block(h)).shape[2] for block in network.body)] == [
            112,
            56,
            56,
            28,
            28,
            14,
            14,
            7,
            7,
        ]


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("adaface_ir18", 24.02),
        ("adaface_ir34", 34.13),
        ("adaface_ir50", 43.59),
        ("adaface_ir101", 65.15),
        ("r18", 24.03),
        ("r34", 34.14),
        ("r50", 43.59),
        ("r100", 65.16),
        ("mbf", 2.06),
    ],
)
def test_parameter_counts(name, millions):
    with torch.device("meta"):
        count = sum(p.numel() for p in get_backbone(name).parameters())
    assert round(count / 1e6, 2) == millions


def test_mobilefacenet_has_arcface_torchs_names():
    with torch.device("meta"):
        state = {name: tuple(value.shape) for name, value in get_backbone("mbf").state_dict().items()}
    assert state["layers.0.layers.0.weight"] == (128, 3, 3, 3)
    assert state["layers.1.layers.0.weight"] == (128, 2, 3, 3)
    assert state["layers.2.layers.1.layers.0.weight"] == (128, 1, 3, 3)
    assert state["layers.3.layers.3.layers.2.layers.0.weight"] == (128, 128, 1, 1)
    assert state["layers.7.layers.1.layers.2.layers.1.running_var"] == (256,)
    assert state["conv_sep.layers.2.weight"] == (512,)
    assert state["features.layers.0.layers.0.weight"] == (512, 1, 7, 7)
    assert state["features.layers.2.weight"] == (512, 512)
    assert state["features.layers.3.running_mean"] == (512,)


@pytest.mark.parametrize("name", names())
def test_every_network_makes_features_of_the_asked_size(name):
    with torch.device("meta"):
        network = get_backbone(name, 64).eval()
        assert network(torch.empty(2, 3, 112, 112)).shape == (2, 64)


@pytest.mark.parametrize("name", SMALL_ENOUGH)
def test_every_trainable_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    network = get_backbone(name, 32, dropout=0.1)
    h = network(torch.randn(3, 3, 112, 112))
    (h * torch.randn(3, 32)).sum().backward()
    assert h.dtype == torch.float32
    for key, parameter in network.named_parameters():
        assert not parameter.requires_grad or parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", SMALL_ENOUGH)
def test_in_evaluation_a_feature_depends_on_its_image_alone(name):
    torch.manual_seed(0)
    network = get_backbone(name, 32, dropout=0.5).eval().double()  # untrained features are huge: float32 would round
    x = torch.randn(4, 3, 112, 112, dtype=torch.float64)
    with torch.inference_mode():
        together = network(x)
        alone = torch.cat([network(row[None]) for row in x])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def test_tiny_trains_samples_independently():
    torch.manual_seed(0)
    network = get_backbone("tiny", 32).train()
    x = torch.randn(4, 3, 112, 112)
    torch.testing.assert_close(network(x)[:2], network(x[:2]), rtol=1e-5, atol=1e-5)
    assert 1 < network(x).norm(dim=1).mean() < 30


def test_the_last_norm_keeps_unit_weight():
    assert not get_backbone("small").features.weight.requires_grad


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="unknown network 'r34s': did you mean 'r34'"):
        get_backbone("r34s")


def test_adafaces_network_begins_as_its_authors_let_it():
    """Weights of deviation sqrt(2 / fan-out), no bias, dropout before the linear layer, features
    that are normalised without scale or shift.
    """
    with torch.device("meta"):
        network = get_backbone("adaface_ir34", dropout=0.4)
    _, dropout, _, _, last = network.output_layer
    assert (dropout.p, last.affine) == (0.4, False)
    torch.manual_seed(0)
    small = AdaFaceIR((1, 1, 1, 1), 64)
    for module in small.modules():
        if isinstance(module, torch.nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
            assert module.bias is None
    assert float(small.output_layer[3].weight.detach().std()) == pytest.approx((2 / 64) ** 0.5, rel=0.02)
    assert not small.output_layer[3].bias.any()
