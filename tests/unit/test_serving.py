"""An image's numbers are the same to the last bit, whoever is beside it and however many threads there are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, replace

import pytest
import torch
from torch import Tensor, nn

from inversion_core.engine.precision import Precision
from inversion_core.engine.step import Inputs, PackStep, Want
from inversion_core.latents import Latent
from inversion_core.models import (
    DiscriminatorConfig,
    DiscriminatorFeatures,
    Encoder,
    EncoderConfig,
    GeneratorConfig,
    StyleGANGenerator,
    VGG16Features,
)
from inversion_core.models import serving as served
from inversion_core.models.serving import alike, by_image, is_serving, linear, serving
from inversion_core.optimizers import OPTIMIZERS, AnyOptimizer, Look
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.packs import Pack, PackManifest, PerceptualSpec
from tests.stepping import begun, stepped

pytestmark = pytest.mark.unit


# -- the rules -------------------------------------------------------------------------------------------------


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "_is_alike", {})


def doubling(sizes: list[int], of_many: float = 0.0) -> Callable[[Tensor], Tensor]:
    """Twice the input, and `of_many` more in a batch; it notes how many images it was given."""

    def run(x_B: Tensor) -> Tensor:
        sizes.append(len(x_B))
        return 2 * x_B + (of_many if len(x_B) > 1 else 0.0)

    return run


@pytest.mark.usefixtures("untried")
def test_what_rounds_alike_is_computed_in_one_go() -> None:
    sizes: list[int] = []
    run, x_B = doubling(sizes), torch.randn(3, 4)
    assert torch.equal(alike(run, "double", x_B), 2 * x_B)
    assert sizes == [1, 3, 3], "once alone and once together to find out"
    assert torch.equal(alike(run, "double", x_B + 1), 2 * (x_B + 1))
    assert sizes == [1, 3, 3, 3], "and then it is known"
    alike(run, "double", torch.randn(2, 4))
    assert sizes == [1, 3, 3, 3, 1, 2, 2], "of this shape"


@pytest.mark.usefixtures("untried")
def test_what_rounds_by_the_batch_is_computed_image_by_image() -> None:
    sizes: list[int] = []
    run, x_B = doubling(sizes, of_many=1e-6), torch.randn(3, 4)
    assert torch.equal(alike(run, "double", x_B), 2 * x_B)
    assert torch.equal(alike(run, "double", x_B + 1), 2 * (x_B + 1))
    assert sizes == [1, 3, 1, 1, 1, 1, 1, 1]
    alike(doubling([]), "another", x_B)
    assert len(served._is_alike) == 2


@pytest.mark.usefixtures("untried")
def test_one_image_is_never_tried() -> None:
    sizes: list[int] = []
    alike(doubling(sizes), "double", torch.randn(1, 4))
    by_image(doubling(sizes), torch.randn(1, 4))
    assert sizes == [1, 1]


@pytest.mark.usefixtures("untried")
def test_a_trial_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.randn(2)
    torch.manual_seed(0)
    alike(lambda x_B: x_B, "same", torch.zeros(2, 4))
    assert torch.equal(torch.randn(2), expected)


def test_it_is_for_frozen_float32_on_a_cpu_where_it_is_asked_for() -> None:
    x_B, weight = torch.zeros(2, 3), torch.zeros(3)
    assert not is_serving(x_B, weight)
    with serving():
        assert is_serving(x_B, weight, None)
        with serving():
            pass
        assert is_serving(x_B), "the inner one has not ended it"
        assert not is_serving(x_B, weight.clone().requires_grad_())
        assert not is_serving(x_B, weight.double())
        assert not is_serving(x_B.double(), weight)
        assert not is_serving(torch.zeros(2, 3, device="meta"))
        with torch.autocast("cpu", torch.bfloat16):
            assert not is_serving(x_B, weight)
    assert not is_serving(x_B, weight)


def test_of_several_each_gives_its_own_row() -> None:
    a_B, b_B = torch.randn(3, 4), torch.randn(3, 4, 2)
    together = alike(lambda a_B, b_B: a_B[..., None] * b_B, "product", a_B, b_B)
    assert torch.equal(together, a_B[..., None] * b_B)
    assert torch.equal(by_image(lambda a_B, b_B: a_B[..., None] * b_B, a_B, b_B), together)


@pytest.mark.parametrize("needs_gradient", [False, True])
def test_a_linear_layer_is_itself(needs_gradient: bool) -> None:
    x_BI, weight_OI, bias_O = torch.randn(3, 4).requires_grad_(needs_gradient), torch.randn(5, 4), torch.randn(5)
    with serving():
        found_BO = linear(x_BI, weight_OI, bias_O)
    torch.testing.assert_close(found_BO, x_BI @ weight_OI.T + bias_O)
    if needs_gradient:
        found_BO.sum().backward()
        torch.testing.assert_close(x_BI.grad, weight_OI.sum(0).expand(3, 4))


# -- whole networks --------------------------------------------------------------------------------------------


@functools.cache
def pack(kind: str) -> Pack:
    """Random weights: a small pack's architecture, or IDInvert's with as many channels at 64 px."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "small":
            trunk = DiscriminatorConfig(resolution=64, channels=(128, 128, 128, 64, 32))
            generator = GeneratorConfig(
                resolution=64, channels=(128, 128, 128, 64, 32), z_dim=64, w_dim=128, mapping_dim=64, mapping_layers=2
            )
            perceptual: nn.Module = DiscriminatorFeatures(trunk, until=16)
            spec = PerceptualSpec(
                kind="discriminator",
                layer="trunk at 16 px",
                args={"resolution": 64, "channels": list(trunk.channels), "until": 16},
                weight=0.1,
            )
            encoder = EncoderConfig(resolution=64, w_dim=128, channels_base=32, channels_max=256, batch_norm=False)
        else:
            generator = GeneratorConfig(
                resolution=64, channels=(512, 512, 512, 256, 128), z_dim=64, mapping_dim=64, mapping_layers=2
            )
            perceptual, encoder = VGG16Features(), EncoderConfig(resolution=64, channels_base=64, channels_max=256)
            spec = PerceptualSpec(kind="vgg16", layer="relu4_3", args={"mean_bgr": [103.939, 116.779, 123.68]})
        network = StyleGANGenerator(generator)
        nn.init.normal_(network.synthesis.get_parameter("layers.0.const"))
        manifest = PackManifest(name=kind, version="1", generator=generator, encoder=encoder, perceptual=spec)
        return Pack(manifest, generator=network, perceptual=perceptual, encoder=Encoder(encoder))


MOST = 5


@functools.cache
def targets(kind: str) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        return pack(kind).synthesize(pack(kind).map(torch.randn(MOST, 64, generator=draw)))


def computed(kind: str, rows: slice, *, regulariser_weight: float = 0.0, has_maps: bool = False) -> dict[str, Tensor]:
    """Everything that an engine computes of these rows, from their targets on."""
    target_BCHW = targets(kind)[rows]
    with torch.no_grad(), serving():
        features_BCHW = pack(kind).features(target_BCHW)
        start_BLD = pack(kind).encode(target_BCHW)
    map_B1HW = torch.ones_like(target_BCHW[:, :1]) if has_maps else None
    inputs = Inputs(
        target_BCHW=target_BCHW, target_features_BCHW=features_BCHW, mask_B1HW=map_B1HW, weight_B1HW=map_B1HW
    )  # fmt: skip
    w_BLD = torch.randn(MOST, *start_BLD.shape[1:], generator=torch.Generator().manual_seed(2))[rows]
    step = PackStep(pack(kind), regulariser_weight, Precision.FLOAT32)
    outcome = step(Latent(w_BLD=w_BLD), inputs, Want.LOOK)
    assert outcome.grad is not None
    assert outcome.look is not None
    assert (outcome.grad.flatten(1).norm(dim=1) > 0).all()
    shown = {"loss": outcome.loss_B, "picture": outcome.image_BCHW} | vars(outcome.look)
    shown |= {"features": features_BCHW, "start": start_BLD, "gradient": outcome.grad}
    return shown | detail_computed(kind, rows, w_BLD, inputs, step)


def detail_computed(kind: str, rows: slice, w_BLD: Tensor, inputs: Inputs, step: PackStep) -> dict[str, Tensor]:
    """What a step of detail comes across, and the update that it makes."""
    px, optimizer = pack(kind).detail.px, pack(kind).detail.adam()
    with torch.no_grad(), serving():
        base_BCHW = pack(kind).base_features(w_BLD, px)
    detail_BCHW = torch.randn(MOST, *base_BCHW.shape[1:], generator=torch.Generator().manual_seed(4))[rows]
    latent = Latent(w_BLD=w_BLD, detail_BCHW=0.1 * detail_BCHW)
    outcome = step(latent, replace(inputs, base_BCHW=base_BCHW), Want.GRADIENT)
    assert outcome.grad is not None
    assert (outcome.grad.flatten(1).norm(dim=1) > 0).all()
    with serving():
        moved, _ = optimizer.step(latent, outcome.evaluation(with_look=False), optimizer.init(latent))
    return {
        "base": base_BCHW, "picture with detail": outcome.image_BCHW, "loss with detail": outcome.loss_B,
        "gradient of detail": outcome.grad, "moved detail": moved.free,
    }  # fmt: skip


def assert_same_bits(found: dict[str, Tensor], row: int, alone: dict[str, Tensor]) -> None:
    for name, value_B in found.items():
        assert torch.equal(value_B[row : row + 1], alone[name]), name


@pytest.mark.parametrize("kind", ["small", "wide"])
@pytest.mark.parametrize("count", [2, 3, 4, MOST])
def test_neighbours_do_not_change_a_bit(kind: str, count: int) -> None:
    together = computed(kind, slice(0, count))
    for row in (0, count - 1):
        assert_same_bits(together, row, computed(kind, slice(row, row + 1)))


def test_neighbours_with_mask_and_focus_do_not_change_a_bit_of_one_without() -> None:
    together = computed("small", slice(0, 3), regulariser_weight=2.0, has_maps=True)
    assert_same_bits(together, 1, computed("small", slice(1, 2), regulariser_weight=2.0))


@pytest.fixture
def other_threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield 1 if before > 1 else 2
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["small", "wide"])
@pytest.mark.parametrize("count", [1, 3])
def test_threads_do_not_change_a_bit(kind: str, count: int, other_threads: int) -> None:
    found = computed(kind, slice(0, count))
    torch.set_num_threads(other_threads)
    again = computed(kind, slice(0, count))
    for name, value_B in found.items():
        assert torch.equal(value_B, again[name]), name


# -- optimizers ------------------------------------------------------------------------------------------------

LAYERS, WIDTH = 10, 256


@functools.cache
def optimizer(name: str) -> AnyOptimizer:
    """With as many numbers as a pack's, and random weights."""
    if name in OPTIMIZERS:
        built: AnyOptimizer = OPTIMIZERS[name]()
        return built
    design = DESIGNS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        defaults = {each.name: each.default for each in fields(design.config) if each.default is not MISSING}
        settings = {
            key: value for key, value in (defaults | {"feature_channels": 128}).items() if key in design.setting_types
        }
        network = design.build(settings, num_layers=LAYERS, w_dim=WIDTH)
        for parameter in network.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.01)
        made: AnyOptimizer = design.optimizer(network.requires_grad_(False))
        return made


def updated(name: str, rows: slice, updates: int = 5) -> list[Tensor]:
    """Codes and state after each update by gradients and pictures that are the same whoever is there."""
    shapes: dict[str, tuple[int, ...]] = {field.name: (3, 128, 128) for field in fields(Look)}
    shapes |= {"target_features_BCHW": (128, 32, 32), "features_BCHW": (128, 32, 32)}
    draw = torch.Generator().manual_seed(3)
    w_BLD = torch.randn(MOST, LAYERS, WIDTH, generator=draw)[rows]
    state = begun(optimizer(name), w_BLD)
    found = []
    for update in range(updates):
        grad_BLD = torch.randn(MOST, LAYERS, WIDTH, generator=draw)[rows] + w_BLD
        look = Look(**{each: torch.randn(MOST, *shape, generator=draw)[rows] for each, shape in shapes.items()})
        loss_B = (2 - 0.1 * update + 0.01 * torch.randn(MOST, generator=draw))[rows]
        with serving():
            w_BLD, state = stepped(optimizer(name), w_BLD, grad_BLD, state, loss_B=loss_B, look=look)
        found += [w_BLD, *state]
    return found


@pytest.mark.parametrize("name", [*OPTIMIZERS])
def test_an_optimizer_of_detail_rounds_an_image_as_if_it_were_alone(name: str) -> None:
    def moved(rows: slice) -> list[Tensor]:
        draw = torch.Generator().manual_seed(5)
        detail_BCHW = torch.randn(MOST, 24, 16, 16, generator=draw)[rows]
        state, found = begun(optimizer(name), detail_BCHW), []
        for _ in range(4):
            grad_BCHW = torch.randn(MOST, 24, 16, 16, generator=draw)[rows] + detail_BCHW
            with serving():
                detail_BCHW, state = stepped(optimizer(name), detail_BCHW, grad_BCHW, state)
            found += [detail_BCHW, *state]
        return found

    for ours_B, alone_B in zip(moved(slice(0, 3)), moved(slice(2, 3)), strict=True):
        assert torch.equal(ours_B[2:3], alone_B)


@pytest.mark.parametrize("name", [*OPTIMIZERS, *DESIGNS])
@pytest.mark.parametrize("count", [2, 3, MOST])
def test_an_optimizer_rounds_an_image_as_if_it_were_alone(name: str, count: int) -> None:
    together = updated(name, slice(0, count))
    for row in (0, count - 1):
        for ours_B, alone_B in zip(together, updated(name, slice(row, row + 1)), strict=True):
            assert torch.equal(ours_B[row : row + 1], alone_B)


@pytest.mark.parametrize("name", [*OPTIMIZERS, *DESIGNS])
def test_threads_do_not_change_a_bit_of_an_optimizer(name: str, other_threads: int) -> None:
    found = updated(name, slice(0, 1))
    torch.set_num_threads(other_threads)
    for value_B, again_B in zip(found, updated(name, slice(0, 1)), strict=True):
        assert torch.equal(value_B, again_B)
