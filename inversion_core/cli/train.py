"""`inversion train data|generator|encoder|export`: from a folder of pictures to a pack."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from inversion_core.errors import OptionInvalid
from inversion_core.models import DiscriminatorConfig, EncoderConfig, GeneratorConfig
from inversion_core.models.lpips import load_lpips
from inversion_core.packs import load_pack
from inversion_core.training.calibration import calibrate
from inversion_core.training.data import load_pictures, pack_pictures
from inversion_core.training.encoder import EncoderTrainer, EncoderTraining
from inversion_core.training.export import assemble, write
from inversion_core.training.generator import GeneratorTrainer, GeneratorTraining
from inversion_core.training.run import RunFolder

CHANNELS = (256, 256, 128, 64, 32, 16, 8, 4, 4)
"""Generator's channels at 4, 8, ... 1024 px for `--width 1`; multiplied by the width."""
CRITIC_CHANNELS = (128, 128, 128, 64, 32, 16, 8, 4, 4)
"""Discriminator's channels, likewise."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `train` and its sub-commands."""
    train = commands.add_parser("train", help="train generators and encoders, and make packs of them")
    kinds = train.add_subparsers(dest="kind", required=True, metavar="KIND")
    _add_data(kinds)
    _add_generator(kinds)
    _add_encoder(kinds)
    _add_export(kinds)


def _add_data(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("data", help="pack folders of aligned face pictures into one archive")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="pictures, aligned as FFHQ does it")
    parser.add_argument("--size", type=int, default=64, metavar="PX", help="side of the pictures (default: 64)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz")
    parser.set_defaults(run=_run_data)


def _add_generator(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "generator", help="train a generator with its encoder and discriminator; goes on where it stopped"
    )
    _add_common(parser)
    defaults = GeneratorTraining
    parser.add_argument("--w-dim", type=int, default=256, help="width of z, w and the mapping network (default: 256)")
    parser.add_argument("--width", type=float, default=1.0, help="factor of all channels (default: 1)")
    parser.add_argument(
        "--reconstruction-steps", type=int, default=defaults.reconstruction_steps, metavar="N",
        help="steps as an autoencoder, first (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--adversarial-steps", type=int, default=defaults.adversarial_steps, metavar="N",
        help="steps with the discriminator, after (default: %(default)s)",
    )  # fmt: skip
    parser.set_defaults(run=_run_generator, rate=defaults.generator_rate)


def _add_encoder(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("encoder", help="train an encoder for a pack's generator; goes on where it stopped")
    _add_common(parser)
    parser.add_argument("--pack", help="pack whose generator and perceptual network are used, a name or a folder")
    parser.add_argument("--channels-base", type=int, default=32, help="encoder's channels at full size (default: 32)")
    parser.add_argument("--channels-max", type=int, default=128, help="encoder's most channels (default: 128)")
    parser.add_argument("--steps", type=int, default=EncoderTraining.steps, metavar="N", help="(default: %(default)s)")
    parser.set_defaults(run=_run_encoder, rate=EncoderTraining.rate)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, metavar="DATA", help="archive made by `inversion train data`")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder: checkpoint, log, samples")
    parser.add_argument("--lpips", type=Path, metavar="FILE", help="LPIPS squeeze weights: sharper, if you have them")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="pictures a step (default: 4)")
    parser.add_argument("--rate", type=float, help="Adam's rate (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=96, metavar="N", help="kept for measuring (default: 96)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--until", type=int, metavar="STEP", help="stop here, with the schedule of the whole run")
    parser.add_argument("--sample-every", type=int, default=500, metavar="N", help="steps between two sample sheets")


def _add_export(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("export", help="make a pack of a generator run")
    parser.add_argument("run_folder", type=Path, metavar="RUN")
    parser.add_argument("data", type=Path, metavar="DATA", help="archive the run was trained on, for the calibration")
    parser.add_argument("--out", type=Path, required=True, metavar="PACK", help="folder of the pack")
    parser.add_argument("--name", required=True, help="small letters, digits and dashes")
    parser.add_argument("--version", default="1", help="(default: 1)")
    parser.add_argument("--description", default="")
    parser.add_argument("--licence", required=True, help="under which the weights may be used: that of the pictures")
    parser.add_argument("--provenance", required=True, help="data, program and command")
    parser.add_argument("--card", type=Path, metavar="FILE.md", help="model card, goes in as README.md")
    parser.add_argument("--held-out", type=int, default=96, metavar="N", help="as in training")
    parser.add_argument(
        "--until-px", type=int, default=16, metavar="PX",
        help="size of the discriminator's feature map that is compared (default: 16)",
    )  # fmt: skip
    parser.add_argument(
        "--calibration-steps", type=int, default=100, metavar="N",
        help="updates of each inversion that optimizers are tuned with (default: 100)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace a pack that is there")
    parser.set_defaults(run=_run_export)


def _run_data(args: argparse.Namespace) -> int:
    count = pack_pictures(args.folders, args.out, args.size)
    print(f"{count} pictures of {args.size} px in {args.out}")
    return 0


def _run_generator(args: argparse.Namespace) -> int:
    training, held_out = load_pictures(args.data, held_out=args.held_out)
    size = training.pictures_NCHW.shape[-1]
    count = size.bit_length() - 2  # of resolutions from 4 px on
    channels = tuple(max(4, round(c * args.width)) for c in CHANNELS[:count])
    critic = tuple(max(4, round(c * args.width)) for c in CRITIC_CHANNELS[:count])
    config = GeneratorTraining(
        generator=GeneratorConfig(
            resolution=size, channels=channels, z_dim=args.w_dim, w_dim=args.w_dim, mapping_dim=args.w_dim,
            final_tanh=True, truncation_layers=2 * count,
        ),
        encoder=EncoderConfig(resolution=size, w_dim=args.w_dim, channels_base=32, channels_max=128, batch_norm=False),
        discriminator=DiscriminatorConfig(resolution=size, channels=critic),
        reconstruction_steps=args.reconstruction_steps, adversarial_steps=args.adversarial_steps,
        batch_size=args.batch, generator_rate=args.rate, seed=args.seed,
    )  # fmt: skip
    lpips = load_lpips(args.lpips) if args.lpips else None
    trainer = GeneratorTrainer(config, training, held_out, RunFolder(args.out), lpips=lpips, device=args.device)
    trainer.run(until=args.until, sample_every=args.sample_every)
    print(f"step {trainer.step} of {config.total_steps} in {args.out}: {trainer.measure()}")
    return 0


def _run_encoder(args: argparse.Namespace) -> int:
    training, held_out = load_pictures(args.data, held_out=args.held_out)
    pack = load_pack(args.pack, device=args.device)
    if (size := training.pictures_NCHW.shape[-1]) != pack.resolution:
        raise OptionInvalid(f"{args.data} has pictures of {size} px; pack {pack.name} needs {pack.resolution}")
    config = EncoderTraining(
        encoder=EncoderConfig(
            resolution=size, w_dim=pack.w_dim, batch_norm=False,
            channels_base=args.channels_base, channels_max=args.channels_max,
        ),
        steps=args.steps, batch_size=args.batch, rate=args.rate, seed=args.seed,
    )  # fmt: skip
    lpips = load_lpips(args.lpips) if args.lpips else None
    trainer = EncoderTrainer(config, pack, training, held_out, RunFolder(args.out), lpips=lpips)
    trainer.run(until=args.until, sample_every=args.sample_every)
    print(f"step {trainer.step} of {config.steps} in {args.out}: {trainer.measure()}")
    return 0


def _run_export(args: argparse.Namespace) -> int:
    _, held_out = load_pictures(args.data, held_out=args.held_out)
    pack = assemble(
        args.run_folder, name=args.name, version=args.version, description=args.description,
        licence=args.licence, provenance=args.provenance, until_px=args.until_px,
    )  # fmt: skip
    pack, losses = calibrate(pack, held_out, num_steps=args.calibration_steps)
    for trial, loss in losses.items():
        print(f"{trial}: median of the best loss {loss:.5f}", file=sys.stderr)
    write(pack, args.out, extra_files={"README.md": args.card} if args.card else None, overwrite=args.overwrite)
    print(f"{args.out}: {pack!r}, lambda {pack.perceptual_weight:g}, {pack.optimizers}")
    return 0
