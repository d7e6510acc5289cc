"""`inversion train generator|encoder`: the options, and how a recipe is put together from them."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from pathlib import Path
from typing import Any, TypedDict

import torch

from inversion_core.cli.settings import with_settings
from inversion_core.errors import OptionInvalid
from inversion_core.models import DiscriminatorConfig, EncoderConfig, GeneratorConfig
from inversion_core.models.encoder import is_deepened
from inversion_core.models.lpips import LPIPSSqueeze, load_lpips
from inversion_core.packs import Pack, find_pack, load_pack, read_manifest
from inversion_core.training.critics import CRITICS, PROJECTED, STYLEGAN
from inversion_core.training.data import PictureSet, load_pictures
from inversion_core.training.encoder import EncoderTrainer, EncoderTraining
from inversion_core.training.generator import GeneratorTrainer, GeneratorTraining
from inversion_core.training.growing import Architectures, grown
from inversion_core.training.identity import IdentityDistance, load_identity
from inversion_core.training.options import PRECISIONS, architecture
from inversion_core.training.precision import faster_precision, prepare
from inversion_core.training.projected import PROJECTION
from inversion_core.training.recipes import RECIPES, recipe_fields
from inversion_core.training.run import CHECKPOINT, RunFolder, read_checkpoint, tensors_below

CHANNELS = (256, 256, 128, 64, 32, 16, 8, 4, 4)
"""Generator's channels at 4, 8, ... 1024 px for `--width 1`; multiplied by the width."""
CRITIC_CHANNELS = (128, 128, 128, 64, 32, 16, 8, 4, 4)
"""Discriminator's channels, likewise."""
ADAPTIVE_TARGET = 0.6
"""Of r_t, for `--augment adaptive` (Karras 2020 ADA section 3.1)."""
FADE_IMAGES = 200_000
NEW = "new"


def fill_generator(parser: argparse.ArgumentParser) -> None:
    """The arguments of `train generator`."""
    _add_common(parser, GeneratorTraining.generator_rate, GeneratorTraining.adversarial_weight)
    defaults = GeneratorTraining
    parser.add_argument(
        "--w-dim", type=_count, default=256, help="width of z, w and the mapping network (default: 256)"
    )
    parser.add_argument("--width", type=float, default=1.0, help="multiplier of all channels (default: 1)")
    parser.add_argument(
        "--critic-width", type=float, default=1.0,
        help="extra multiplier of the discriminator's channels; also slows down the perceptual network F (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--reconstruction-steps", type=int, default=defaults.reconstruction_steps, metavar="N",
        help="steps of the first phase, as an autoencoder; 0: adversarial from the start (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--adversarial-steps", type=int, default=defaults.adversarial_steps, metavar="N",
        help="steps of the second phase, with the discriminator (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--adversarial-batch", type=int, metavar="N", help="images per step in the second phase (default: --batch)"
    )
    parser.add_argument(
        "--critic", choices=CRITICS, default=defaults.critic,
        help="critic of the second phase; projected: small heads on SqueezeNet's features (--lpips), for few "
        "images or a slow machine (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--encoder-blocks", type=_count, metavar="N",
        help="residual blocks of the encoder at each size; extra ones compared with --start-from begin as the "
        "identity (default: 1, or as in the starting networks)",
    )  # fmt: skip
    parser.add_argument(
        "--grow-from", type=Path, metavar="RUN",
        help="start from the networks of a run at half the resolution, with its --w-dim and --width",
    )  # fmt: skip
    parser.add_argument(
        "--fade-images", type=int, default=FADE_IMAGES, metavar="N",
        help="with --grow-from: number of real images over which to fade in the new resolution (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--start-from", metavar="PACK",
        help="start from the generator and encoder of a pack (name or folder), with their sizes",
    )  # fmt: skip
    parser.set_defaults(run=_run_generator)


def fill_encoder(parser: argparse.ArgumentParser) -> None:
    """The arguments of `train encoder`."""
    _add_common(parser, EncoderTraining.rate, EncoderTraining.adversarial_weight)
    parser.add_argument("--pack", help="pack with the generator and perceptual network, name or folder")
    parser.add_argument(
        "--channels-base", type=_count, default=32, help="channels of the encoder at full resolution (default: 32)"
    )
    parser.add_argument(
        "--channels-max", type=_count, default=128, help="maximum channels of the encoder (default: 128)"
    )
    parser.add_argument(
        "--blocks", type=_count, default=1, metavar="N", help="residual blocks of the encoder at each size (default: 1)"
    )
    parser.add_argument("--steps", type=int, default=EncoderTraining.steps, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--discriminator", metavar="RUN|new|projected",
        help="add the adversarial term: with the critic of this generator run, a new discriminator, or a new "
        "projected critic (as `train generator --critic`)",
    )  # fmt: skip
    parser.set_defaults(run=_run_encoder)


def _add_common(parser: argparse.ArgumentParser, rate: float, adversarial_weight: float) -> None:
    parser.add_argument("data", type=Path, metavar="DATA", help="archive made by `inversion train data`")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder: checkpoint, log, samples")
    parser.add_argument("--lpips", type=Path, metavar="FILE", help="LPIPS squeeze weights, for sharper results")
    parser.add_argument(
        "--identity", type=Path, metavar="FILE",
        help="face recognition network (ONNX), to preserve identity; evaluate with a different one",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="images per step (default: 4)")
    parser.add_argument(
        "--rate", type=float, default=rate, help="learning rate of the first phase (default: %(default)s)"
    )
    parser.add_argument(
        "--adversarial-weight", type=float, default=adversarial_weight, metavar="X",
        help="weight of the adversarial loss (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--augment", type=_augmentation, default="adaptive", metavar="adaptive|P",
        help="probability of each augmentation of the discriminator's input; adaptive: depends on its "
        "overfitting (default: adaptive)",
    )  # fmt: skip
    parser.add_argument(
        "--recipe", choices=tuple(RECIPES),
        help="recipe for the reconstruction loss; faces: augmentation, and more weight on the inner face "
        "(default: faces for a new run; a resumed run keeps its own)",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", dest="settings",
        help="any other field of the configuration, such as r1_gamma=0.5 or ema_images=20000; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--precision",
        choices=("auto", *PRECISIONS),
        default="auto",
        help="auto measures which is faster (default: auto)",
    )
    add_course(parser)


def add_course(parser: argparse.ArgumentParser) -> None:
    """Options that any training by steps has: its pictures, its device, where it stops."""
    parser.add_argument("--held-out", type=int, default=96, metavar="N", help="number of held-out images (default: 96)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: PyTorch's choice)")
    parser.add_argument(
        "--until", type=int, metavar="STEP", help="stop at this step, keeping the schedule of the whole run"
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, metavar="N",
        help="stop after N minutes, keeping the schedule of the whole run; repeat the command to resume",
    )  # fmt: skip
    parser.add_argument("--sample-every", type=int, default=500, metavar="N", help="steps between sample sheets")


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"it is {text}, and must be a whole number of at least 1")
    return int(text)


def _augmentation(text: str) -> str | float:
    return text if text == "adaptive" else float(text)


# -- generator -----------------------------------------------------------------------------------------------


def _run_generator(args: argparse.Namespace) -> int:
    training, held_out, judges = pictures_and_judges(args)
    if args.grow_from and args.start_from:
        raise OptionInvalid("--grow-from and --start-from both say what a run begins with; give one of them")
    networks = _deepened(_architectures(args, training.pictures_NCHW.shape[-1]), args.encoder_blocks)
    config = _recipe(
        GeneratorTraining, args, generator=networks.generator, encoder=networks.encoder,
        discriminator=networks.discriminator, generator_rate=args.rate,
        reconstruction_steps=args.reconstruction_steps, adversarial_steps=args.adversarial_steps,
        adversarial_batch_size=args.adversarial_batch, critic=args.critic,
        fade_images=args.fade_images if args.grow_from else 0,
    )  # fmt: skip
    trainer = GeneratorTrainer(
        config, training, held_out, RunFolder(args.out), **judges, device=args.device, grow_from=args.grow_from,
        start_from=find_pack(args.start_from) if args.start_from else None,
    )  # fmt: skip
    trainer.run(until=args.until, sample_every=args.sample_every, stop_after_s=60 * args.minutes)
    print(f"step {trainer.step} of {config.total_steps} in {args.out}: {trainer.measure()}")
    return 0


def _architectures(args: argparse.Namespace, size: int) -> Architectures:
    """The networks for pictures of `size` px: of the run that is to grow, or by the options."""
    if args.grow_from:
        networks = grown(args.grow_from)
        if networks.generator.resolution != size:
            raise OptionInvalid(
                f"{args.grow_from} grows to {networks.generator.resolution} px; {args.data} has pictures of {size} px"
            )
        return networks
    count = size.bit_length() - 2  # of resolutions from 4 px on
    discriminator = discriminator_config(size, args.width * args.critic_width)
    if args.start_from:
        return _of_pack(args.start_from, size, discriminator)
    return Architectures(
        generator=GeneratorConfig(
            resolution=size, channels=_widened(CHANNELS, count, args.width), z_dim=args.w_dim, w_dim=args.w_dim,
            mapping_dim=args.w_dim, final_tanh=True, truncation_layers=2 * count,
        ),
        encoder=EncoderConfig(resolution=size, w_dim=args.w_dim, channels_base=32, channels_max=128, batch_norm=False),
        discriminator=discriminator,
    )  # fmt: skip


def _of_pack(pack: str, size: int, discriminator: DiscriminatorConfig) -> Architectures:
    manifest = read_manifest(find_pack(pack))
    if manifest.encoder is None or manifest.resolution != size:
        raise OptionInvalid(
            f"a run on pictures of {size} px cannot begin with pack {manifest.name}: it is for {manifest.resolution} px"
            f"{'' if manifest.encoder else ', and has no encoder'}"
        )
    if not isinstance(manifest.generator, GeneratorConfig) or not isinstance(manifest.encoder, EncoderConfig):
        raise OptionInvalid(
            f"a run trains {GeneratorConfig.kind} generators with {EncoderConfig.kind} encoders; "
            f"those of pack {manifest.name} are {manifest.generator.kind} and {manifest.encoder.kind}, from which none "
            f"can begin. Leave --start-from out"
        )
    return Architectures(generator=manifest.generator, encoder=manifest.encoder, discriminator=discriminator)


def _deepened(networks: Architectures, blocks: int | None) -> Architectures:
    """With as many blocks in the encoder as `--encoder-blocks` says."""
    if blocks is None:
        return networks
    encoder = dataclasses.replace(networks.encoder, blocks_per_size=blocks)
    if not is_deepened(encoder, networks.encoder):
        raise OptionInvalid(
            f"--encoder-blocks is {blocks}, and the encoder that the run begins with has "
            f"{networks.encoder.blocks_per_size} at each size; give as many, or more"
        )
    return dataclasses.replace(networks, encoder=encoder)


def discriminator_config(size: int, width: float) -> DiscriminatorConfig:
    """The discriminator for pictures of `size` px, its channels times a factor."""
    return DiscriminatorConfig(resolution=size, channels=_widened(CRITIC_CHANNELS, size.bit_length() - 2, width))


def _widened(channels: tuple[int, ...], count: int, width: float) -> tuple[int, ...]:
    return tuple(max(4, round(each * width)) for each in channels[:count])


# -- encoder -------------------------------------------------------------------------------------------------


def _run_encoder(args: argparse.Namespace) -> int:
    training, held_out, judges = pictures_and_judges(args)
    pack = pack_for(args, training)
    kind, discriminator, states = _critic(args.discriminator, pack.resolution)
    config = _recipe(
        EncoderTraining, args, critic=kind, discriminator=discriminator, steps=args.steps, rate=args.rate,
        encoder=EncoderConfig(
            resolution=pack.resolution, w_dim=pack.w_dim, batch_norm=False,
            channels_base=args.channels_base, channels_max=args.channels_max,
            blocks_per_size=args.blocks,
        ),
    )  # fmt: skip
    folder = RunFolder(args.out)
    trainer = EncoderTrainer(config, pack, training, held_out, folder, **judges, critic=states)
    trainer.run(until=args.until, sample_every=args.sample_every, stop_after_s=60 * args.minutes)
    print(f"step {trainer.step} of {config.steps} in {args.out}: {trainer.measure()}")
    return 0


States = dict[str, dict[str, Any]]


def _critic(choice: str | None, size: int) -> tuple[str, DiscriminatorConfig | None, States | None]:
    """Kind, configuration and weights of `--discriminator`."""
    if choice is None:
        return STYLEGAN, None, None
    if choice == PROJECTED:
        return PROJECTED, None, None
    if choice == NEW:
        return STYLEGAN, discriminator_config(size, 1.0), None
    tensors, facts = read_checkpoint(Path(choice) / CHECKPOINT)
    states = {name: state for name in ("d", PROJECTION) if (state := tensors_below(tensors, f"{name}/"))}
    if facts is None or not states:
        raise OptionInvalid(f"{choice} holds no run with a critic; name one, or: --discriminator {NEW}|{PROJECTED}")
    if PROJECTION in states:
        return PROJECTED, None, states
    config = architecture(DiscriminatorConfig, facts["config"]["discriminator"])
    if config.resolution != size:
        raise OptionInvalid(f"{choice} has a discriminator for {config.resolution} px; the pictures have {size} px")
    return STYLEGAN, config, states


# -- both ----------------------------------------------------------------------------------------------------


class Judges(TypedDict):
    """Networks given by path that say how far two pictures lie apart."""

    lpips: LPIPSSqueeze | None
    identity: IdentityDistance | None


def pictures_and_judges(args: argparse.Namespace) -> tuple[PictureSet, PictureSet, Judges]:
    """The archive's training and held-out pictures, and the networks that --lpips and --identity name."""
    training, held_out = load_pictures(args.data, held_out=args.held_out)
    return (
        training,
        held_out,
        {
            "lpips": load_lpips(args.lpips) if args.lpips else None,
            "identity": load_identity(args.identity) if args.identity else None,
        },
    )


def pack_for(args: argparse.Namespace, pictures: PictureSet) -> Pack:
    """The pack that --pack names; OptionInvalid where the pictures have another size."""
    pack = load_pack(args.pack, device=args.device)
    if (size := pictures.pictures_NCHW.shape[-1]) != pack.resolution:
        raise OptionInvalid(f"{args.data} has pictures of {size} px; pack {pack.name} needs {pack.resolution}")
    return pack


def _recipe(kind: Any, args: argparse.Namespace, **fields: Any) -> Any:
    """A configuration from the options that both commands have, `--recipe`, those of one, and `--set`."""
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    prepare(args.device)
    adapts = args.augment == "adaptive"
    try:
        config = kind(
            batch_size=args.batch, seed=args.seed, precision=_precision(args),
            adversarial_weight=args.adversarial_weight,
            augment_probability=0.0 if adapts else args.augment, augment_target=ADAPTIVE_TARGET if adapts else None,
            **recipe_fields(kind, args.recipe, args.out), **fields,
        )  # fmt: skip
    except ValueError as error:
        raise OptionInvalid(str(error)) from error
    return with_settings(config, args.settings)


def _precision(args: argparse.Namespace) -> str:
    if args.precision != "auto":
        return str(args.precision)
    chosen, times_ms = faster_precision(args.device)
    times = ", ".join(f"{name} {ms:.2f} ms" for name, ms in times_ms.items())
    print(f"precision {chosen}: a convolution takes in {times}", file=sys.stderr)
    return chosen
