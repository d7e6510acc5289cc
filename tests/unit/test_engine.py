"""The engine: every request gets what `invert` gives it alone, whoever else comes and goes.

The property tests drive the engine's core tick by tick, so an arrival pattern is a list of numbers.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inversion_core.engine import Engine, EngineConfig, ImageStep, Precision, Request, StopReason, StopRules, Ticket
from inversion_core.engine.admission import Entry, check_in
from inversion_core.engine.core import Core
from inversion_core.engine.step import Inputs, Outcome, PackStep, Want
from inversion_core.errors import EngineClosed, EngineFull, OptionInvalid
from inversion_core.inverter import Checkpoint, InvertConfig, Step, invert
from inversion_core.latents import Latent
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.packs import Pack, Variant
from inversion_core.pictures import to_image
from tests.tiny import rough_pack, tiny_targets

pytestmark = pytest.mark.unit

TARGETS = tiny_targets(8)
SETTINGS: dict[str, dict[str, Any]] = {
    "learned": {"hidden": 5, "learning_rate": 0.05},
    "learned-lstm": {"hidden": 4, "depth": 2},
    "learned-basis": {"learning_rate": 0.05},
    "learned-lbfgs": {"history_size": 3, "radius": 0.02},
    "learned-residual": {
        "learning_rate": 0.05,
        "hidden": 8,
        "context": 4,
        "channels_base": 4,
        "channels_max": 8,
        "looks": 3,
        "radius": 0.01,
    },
}


def with_learned(pack: Pack) -> Pack:
    """The pack with learned optimizers of random weights, small ones: they step like trained ones, only worse."""
    networks = {}
    channels = pack.features(TARGETS).shape[1]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for name, own in SETTINGS.items():
            design = DESIGNS[name]
            defaults = {each.name: each.default for each in fields(design.config) if each.default is not MISSING}
            settings_ = {
                key: value
                for key, value in (defaults | own | {"feature_channels": channels}).items()
                if key in design.setting_types
            }
            network = design.build(settings_, num_layers=pack.num_layers, w_dim=pack.w_dim)
            for parameter in network.parameters():
                parameter.data.add_(torch.randn_like(parameter), alpha=0.01)
            networks[Variant(name, "encoder")] = network, settings_
    optimizers: dict[str, Any] = dict(pack.manifest.optimizers) | {
        variant.optimizer: {"encoder": settings_} for variant, (_, settings_) in networks.items()
    }
    learned = {variant: network for variant, (network, _) in networks.items()}
    return Pack(replace(pack.manifest, optimizers=optimizers), generator=pack.generator, perceptual=pack.perceptual,
                encoder=pack.encoder, learned=learned)  # fmt: skip


PACK = with_learned(rough_pack())
NEVER = 10_000
RATES = {"adam": 1.5e-3}
"""Adam steps by a gradient's sign, which rounding decides where there is hardly one: one coordinate that goes the other
way must stay below CLOSE, and one update that is missing in all of them above it."""
CLOSE = 1e-3
"""What the codes may differ by, as a part of their norm."""


@dataclass
class Clock:
    """Seconds that pass only when a test says so."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Bench:
    """A core and its tickets, without a thread."""

    config: EngineConfig
    tickets: list[Ticket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.core = Core(self.config)

    def submit(self, request: Request) -> Ticket:
        ticket = Ticket(depth=self.config.steps_ahead, wake=lambda: None)
        entry: Entry = check_in(request, ticket)
        self.core.waiting.add(entry, priority=request.priority, now_s=self.config.clock())
        self.tickets.append(ticket)
        return ticket

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.core.tick(self.core.pick())

    def finish(self) -> None:
        for _ in range(NEVER):
            if all(ticket.is_ended for ticket in self.tickets):
                return
            self.tick()
        raise AssertionError("the engine does not come to an end")


def bench(**options: Any) -> Bench:
    return Bench(EngineConfig(**{"steps_ahead": NEVER, **options}))


def request(number: int = 0, num_steps: int = 5, optimizer: str = "adam", **options: Any) -> Request:
    config = InvertConfig(
        num_steps=num_steps,
        optimizer=optimizer,
        start=options.pop("start", None),
        learning_rate=options.pop("learning_rate", RATES.get(optimizer)),
        seed=number,
        regulariser_weight=options.pop("regulariser_weight", 0.0),
        focus=options.pop("focus", None),
        detail_steps=options.pop("detail_steps", 0),
        detail_px=options.pop("detail_px", None),
    )
    return Request(pack=options.pop("pack", PACK), target_CHW=TARGETS[number], config=config, **options)


def reference(wanted: Request) -> list[Step]:
    mask = None if wanted.mask_HW is None else wanted.mask_HW[None, None]
    start = None if wanted.start_LD is None else wanted.start_LD[None]
    return list(invert(wanted.pack, wanted.target_CHW[None], wanted.config, start_BLD=start, mask_B1HW=mask,
                       resume=wanted.resume))  # fmt: skip


def assert_same(steps: list[ImageStep], expected: list[Step]) -> None:
    assert [step.index for step in steps] == [step.index for step in expected]
    assert [step.detail_from for step in steps] == [step.detail_from for step in expected]
    for ours, theirs in zip(steps, expected, strict=True):
        assert relative(ours.w_LD, theirs.w_BLD[0]) < CLOSE
        assert ours.loss == pytest.approx(float(theirs.loss_B), rel=CLOSE)
        assert relative(ours.image_CHW, theirs.image_BCHW[0]) < 10 * CLOSE


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


# -- the same as alone -----------------------------------------------------------------------------------------

MASK = torch.zeros(16, 16)
MASK[4:12, 2:14] = 1
MASK[2:4] = 0.5  # a soft edge: what is masked twice differs from what is masked once
KINDS: dict[str, dict[str, Any]] = {
    "encoder": {},
    "mean": {"start": "mean", "optimizer": "nag", "learning_rate": 0.5},
    "random": {"start": "random", "optimizer": "lbfgs", "learning_rate": 0.05},
    "masked": {"mask_HW": MASK},
    "focused": {"focus": 8.0},
    "focused and masked": {"focus": 3.0, "mask_HW": MASK},
    "given": {"start_LD": torch.linspace(-1, 1, 72).view(6, 12), "optimizer": "rmsprop", "learning_rate": 2e-4},
    "regular": {"regulariser_weight": 2.0},
    "with detail": {"detail_steps": 3},
    "with coarse detail": {"detail_steps": 2, "detail_px": 4, "focus": 3.0},
    "with detail after lbfgs": {"detail_steps": 4, "start": "random", "optimizer": "lbfgs", "learning_rate": 0.05},
    "masked with detail": {"detail_steps": 3, "mask_HW": MASK, "regulariser_weight": 2.0},
    **{name: {"optimizer": name} for name in SETTINGS},
}
"""What requests may be like. The rates suit random weights: where a run is chaotic, rounding alone parts the engine's
from that of `invert`, which rounds otherwise."""
CHAOTIC: dict[str, dict[str, Any]] = {
    "fast": {"optimizer": "adam", "learning_rate": 1.0},
    "fast lbfgs": {"optimizer": "lbfgs", "learning_rate": 1.0},
}
ANY_KIND = KINDS | CHAOTIC


@functools.cache
def whole(number: int, kind: str, num_steps: int = 6) -> list[Step]:
    """What `invert` gives."""
    return reference(request(number, num_steps=num_steps, **KINDS[kind]))


@functools.cache
def alone(number: int, kind: str, num_steps: int = 6) -> list[ImageStep]:
    """The same of an engine that has nothing else to do."""
    subject = bench()
    ticket = subject.submit(request(number, num_steps=num_steps, **ANY_KIND[kind]))
    subject.finish()
    return list(ticket)


def first_steps(run: Callable[[int, str, int], list[Any]], number: int, kind: str, num_steps: int) -> list[Any]:
    """Of a run without detail the first of a longer one: rates are constant. Detail begins where w has its number."""
    return run(number, kind, num_steps) if "detail" in kind else run(number, kind, 6)[: num_steps + 1]


def assert_equal(steps: list[ImageStep], expected: list[ImageStep]) -> None:
    assert [step.index for step in steps] == [step.index for step in expected]
    for ours, theirs in zip(steps, expected, strict=True):
        assert ours.detail_from == theirs.detail_from
        for name, value in theirs.latent.tensors().items():
            assert torch.equal(ours.latent.tensors()[name], value)
        assert ours.loss == theirs.loss
        assert torch.equal(ours.image_CHW, theirs.image_CHW)


arrivals = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 7), st.integers(0, 6), st.sampled_from(sorted(ANY_KIND)), st.integers(-1, 1)
    ),
    min_size=2,
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(
    pattern=arrivals, slots=st.sampled_from([1, 3, 8]), turn_steps=st.sampled_from([2, 50]), cancel=st.integers(0, 20)
)
def test_a_request_gets_the_same_steps_alone_and_among_any_neighbours(
    pattern: list[tuple[int, int, int, str, int]], slots: int, turn_steps: int, cancel: int
) -> None:
    subject = bench(slots=slots, turn_steps=turn_steps)
    tickets = []
    for position, (pause, number, num_steps, kind, priority) in enumerate(pattern):
        subject.tick(pause)
        tickets.append(subject.submit(request(number, num_steps, priority=priority, **ANY_KIND[kind])))
        if position == cancel:
            tickets[-1].cancel()
    subject.finish()
    for position, (ticket, (_, number, num_steps, kind, _)) in enumerate(zip(tickets, pattern, strict=True)):
        steps = list(ticket)
        if position == cancel:
            assert ticket.reason is StopReason.CANCELED
            continue
        assert ticket.reason is StopReason.STEPS
        assert_equal(steps, first_steps(alone, number, kind, num_steps))
        if kind in KINDS:
            assert_same(steps, first_steps(whole, number, kind, num_steps))


def test_neighbours_change_nothing_when_batches_are_filled_up() -> None:
    subject = bench(slots=8, buckets=(4, 8))
    tickets = [subject.submit(request(number, num_steps=number)) for number in range(6)]
    subject.finish()
    for number, ticket in enumerate(tickets):
        assert_same(list(ticket), whole(number, "encoder")[: number + 1])


def test_those_who_wait_are_encoded_together() -> None:
    encoded: list[int] = []

    class Counting(Pack):
        def encode(self, image_BCHW: Tensor) -> Tensor:
            encoded.append(len(image_BCHW))
            return super().encode(image_BCHW)

    pack = Counting(
        PACK.manifest, generator=PACK.generator, perceptual=PACK.perceptual, encoder=PACK.encoder, learned=PACK.learned
    )
    subject = bench(slots=8)
    for number, start in enumerate(("encoder", "mean", "encoder", "encoder")):
        subject.submit(request(number, start=start, pack=pack))
    subject.finish()
    assert encoded == [3]


def test_a_checkpoint_goes_on_in_another_company() -> None:
    subject = bench()
    first = subject.submit(request(2, optimizer="lbfgs"))
    subject.tick(4)
    kept = Checkpoint.from_bytes(list(first._steps)[3].checkpoint().to_bytes())
    assert torch.equal(kept.w_BLD[0], list(first._steps)[3].w_LD)
    for number in (1, 5):
        subject.submit(request(number))
    resumed = subject.submit(request(2, optimizer="lbfgs", resume=kept))
    subject.finish()
    assert_same(list(resumed), reference(request(2, optimizer="lbfgs"))[3:])


@pytest.mark.parametrize("index", [1, 3, 4, 7])
def test_a_checkpoint_of_either_stage_goes_on_in_another_company(index: int) -> None:
    subject, wanted = bench(), request(2, num_steps=3, detail_steps=4)
    first = subject.submit(wanted)
    subject.finish()
    expected = list(first)
    kept = Checkpoint.from_bytes(expected[index].checkpoint().to_bytes())
    for number in (1, 5):
        subject.submit(request(number, detail_steps=number))
    resumed = subject.submit(replace(wanted, resume=kept))
    subject.finish()
    assert_equal(list(resumed), expected[index:])


def test_those_who_come_to_detail_together_begin_it_together() -> None:
    begun: list[int] = []

    class Counting(Pack):
        def base_features(self, w_BLD: Tensor, px: int) -> Tensor:
            begun.append(len(w_BLD))
            return super().base_features(w_BLD, px)

    pack = Counting(
        PACK.manifest, generator=PACK.generator, perceptual=PACK.perceptual, encoder=PACK.encoder, learned=PACK.learned
    )
    sizes: list[tuple[int, bool]] = []

    def make_step(pack: Pack, regulariser_weight: float, _: Precision) -> Any:
        real = PackStep(pack, regulariser_weight)

        def step(latent: Latent, inputs: Inputs, want: Want) -> Outcome:
            sizes.append((len(latent), latent.detail_BCHW is not None))
            return real(latent, inputs, want)

        return step

    subject = bench(make_step=make_step)
    for number, num_steps in ((0, 2), (1, 2), (2, 3)):
        subject.submit(request(number, num_steps, detail_steps=2, pack=pack))
    subject.finish()
    assert begun == [2, 1]
    assert sizes == [(3, False), (3, False), (1, False), (2, True), (3, True), (3, True), (1, True)]


def test_a_start_with_detail_goes_on_from_it() -> None:
    subject = bench()
    first = subject.submit(request(0, num_steps=2, detail_steps=2))
    subject.finish()
    *_, end = first
    config = InvertConfig(detail_steps=2)
    again = subject.submit(Request(pack=PACK, target_CHW=TARGETS[0], config=config, start_LD=end.latent))
    kept = subject.submit(
        Request(pack=PACK, target_CHW=TARGETS[0], config=InvertConfig(num_steps=0, detail_steps=0), start_LD=end.latent)
    )
    subject.finish()
    steps = list(again)
    assert [step.index for step in steps] == [0, 1, 2]
    assert steps[0].loss == end.loss
    assert steps[-1].loss < end.loss
    assert [step.loss for step in kept] == [end.loss]
    with pytest.raises(ValueError, match="2 images"):
        request(0, start_LD=Latent(w_BLD=PACK.mean_codes(2)))


def test_runs_of_different_length_share_a_cohort_only_where_their_rates_agree() -> None:
    plain, longer = (check_in(request(num_steps=n), Ticket(depth=1, wake=lambda: None)) for n in (5, 9))
    assert plain.cohort_key == longer.cohort_key
    settings_ = {"learning_rate": 0.1, "final_factor": 0.1}
    manifest = replace(PACK.manifest, optimizers={**PACK.manifest.optimizers, "adam": settings_})
    pack = Pack(
        manifest, generator=PACK.generator, perceptual=PACK.perceptual, encoder=PACK.encoder, learned=PACK.learned
    )
    subject = bench()
    tickets = [subject.submit(request(number, num_steps=number, pack=pack)) for number in (3, 6)]
    subject.finish()
    for ticket, number in zip(tickets, (3, 6), strict=True):
        assert_same(list(ticket), reference(request(number, num_steps=number, pack=pack)))


# -- ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (StopRules(target_loss=1e9), StopReason.TARGET_LOSS),
        (StopRules(max_seconds=3.0), StopReason.MAX_SECONDS),
        (StopRules(plateau_steps=4, plateau_fraction=0.99), StopReason.PLATEAU),
        (StopRules(), StopReason.STEPS),
    ],
)
def test_each_rule_ends_its_request_and_no_other(rules: StopRules, reason: StopReason) -> None:
    clock = Clock()
    subject = bench(clock=clock)
    ruled, other = subject.submit(request(0, 30, rules=rules)), subject.submit(request(1, 30))
    for _ in range(40):
        subject.tick()
        clock.now_s += 1
    length = {StopReason.TARGET_LOSS: 1, StopReason.MAX_SECONDS: 4, StopReason.PLATEAU: 5, StopReason.STEPS: 31}
    assert (ruled.reason, len(list(ruled))) == (reason, length[reason])
    assert (other.reason, len(list(other))) == (StopReason.STEPS, 31)


def test_a_plateau_of_w_moves_on_to_detail_and_one_of_detail_ends() -> None:
    rules = StopRules(plateau_steps=4, plateau_fraction=0.99)
    subject = bench()
    moved = subject.submit(request(0, 30, detail_steps=3, rules=rules))
    ended = subject.submit(request(1, 30, detail_steps=30, rules=rules))
    subject.finish()
    steps = list(moved)
    assert (moved.reason, steps[-1].index, steps[-1].detail_from) == (StopReason.STEPS, 8, 5)
    steps = list(ended)
    assert (ended.reason, steps[-1].index, steps[-1].detail_from) == (StopReason.PLATEAU, 9, 5)


def test_a_plateau_is_counted_the_same_after_going_on() -> None:
    rules = StopRules(plateau_steps=4, plateau_fraction=0.99)
    subject = bench()
    whole_run = subject.submit(request(1, 30, detail_steps=30, rules=rules))
    subject.finish()
    expected = list(whole_run)
    for index in (4, 5, 7):
        kept = Checkpoint.from_bytes(expected[index].checkpoint().to_bytes())
        before = [(step.index, step.loss) for step in expected[:index]]
        resumed = subject.submit(request(1, 30, detail_steps=30, rules=rules, resume=kept, losses_before=before))
        subject.finish()
        assert_equal(list(resumed), expected[index:])


def test_other_rules_end_a_request_in_either_stage() -> None:
    clock = Clock()
    subject = bench(clock=clock)
    in_w = subject.submit(request(0, 30, detail_steps=30, rules=StopRules(max_seconds=3.0)))
    in_detail = subject.submit(request(1, 2, detail_steps=30, rules=StopRules(max_seconds=5.0)))
    at_once = subject.submit(request(2, 0, detail_steps=30, rules=StopRules(target_loss=1e9)))
    for _ in range(8):
        subject.tick()
        clock.now_s += 1
    assert [ticket.reason for ticket in (in_w, in_detail, at_once)] == [
        StopReason.MAX_SECONDS, StopReason.MAX_SECONDS, StopReason.TARGET_LOSS,
    ]  # fmt: skip
    assert [len(list(ticket)) for ticket in (in_w, in_detail, at_once)] == [4, 6, 1]


def test_a_request_whose_detail_cannot_begin_ends_alone() -> None:
    class Choosy(Pack):
        def base_features(self, w_BLD: Tensor, px: int) -> Tensor:
            if len(w_BLD) > 1 or torch.equal(w_BLD, spoilt.latent.w_BLD):
                raise RuntimeError("no features for this")
            return super().base_features(w_BLD, px)

    pack = Choosy(
        PACK.manifest, generator=PACK.generator, perceptual=PACK.perceptual, encoder=PACK.encoder, learned=PACK.learned
    )
    spoilt = alone(3, "encoder")[2]
    subject = bench()
    tickets = [subject.submit(request(number, 2, detail_steps=3, pack=pack)) for number in (1, 3, 5)]
    subject.finish()
    with pytest.raises(RuntimeError, match="no features"):
        list(tickets[1])
    for ticket, number in ((tickets[0], 1), (tickets[2], 5)):
        assert_equal(list(ticket), alone(number, "with detail", 2))


def test_a_diverging_request_ends_alone() -> None:
    subject = bench()
    spoilt = torch.full((3, 16, 16), float("nan"))
    bad = subject.submit(replace(request(0), target_CHW=spoilt))
    good = subject.submit(request(1))
    subject.finish()
    assert bad.reason is StopReason.NONFINITE
    assert len(list(bad)) == 1
    assert_same(list(good), whole(1, "encoder")[:6])


class Failing:
    """A step that fails for one picture, as often as it is in the batch."""

    def __init__(self, pack: Pack, regulariser_weight: float, _: Precision) -> None:
        self._real = PackStep(pack, regulariser_weight)

    def __call__(self, latent: Latent, inputs: Inputs, want: Want) -> Outcome:
        if (inputs.target_BCHW == TARGETS[3]).all(dim=(1, 2, 3)).any():
            raise RuntimeError("this picture breaks the step")
        return self._real(latent, inputs, want)


def test_an_exception_ends_the_request_that_causes_it() -> None:
    subject = bench(make_step=Failing)
    tickets = [subject.submit(request(number)) for number in (2, 3, 4)]
    subject.finish()
    with pytest.raises(RuntimeError, match="breaks the step"):
        list(tickets[1])
    assert tickets[1].reason is None
    for ticket, number in ((tickets[0], 2), (tickets[2], 4)):
        assert_same(list(ticket), whole(number, "encoder")[:6])


def test_an_encoder_that_fails_for_one_picture_costs_that_one() -> None:
    class Choosy(Pack):
        def encode(self, image_BCHW: Tensor) -> Tensor:
            if (image_BCHW == TARGETS[3]).all(dim=(1, 2, 3)).any():
                raise RuntimeError("cannot encode this")
            return super().encode(image_BCHW)

    pack = Choosy(
        PACK.manifest, generator=PACK.generator, perceptual=PACK.perceptual, encoder=PACK.encoder, learned=PACK.learned
    )
    subject = bench()
    tickets = [subject.submit(request(number, pack=pack)) for number in (1, 2, 3, 4, 5)]
    subject.finish()
    with pytest.raises(RuntimeError, match="cannot encode"):
        list(tickets[2])
    assert [ticket.reason for ticket in tickets] == [StopReason.STEPS] * 2 + [None] + [StopReason.STEPS] * 2


@dataclass
class Small:
    """A device with memory for so many rows."""

    rows: int
    sizes: list[int] = field(default_factory=list)

    def __call__(self, pack: Pack, regulariser_weight: float, _: Precision) -> Any:
        real = PackStep(pack, regulariser_weight)

        def step(latent: Latent, inputs: Inputs, want: Want) -> Outcome:
            self.sizes.append(len(latent))
            if len(latent) > self.rows:
                raise torch.OutOfMemoryError("CUDA out of memory (not really)")
            return real(latent, inputs, want)

        return step


def test_out_of_memory_halves_the_batch_and_goes_on() -> None:
    device = Small(rows=2)
    subject = bench(make_step=device, slots=6)
    tickets = [subject.submit(request(number)) for number in range(6)]
    subject.finish()
    assert device.sizes[:6] == [6, 3, 1, 1, 1, 1], "half of 3 is 1"
    for number, ticket in enumerate(tickets):
        assert_same(list(ticket), whole(number, "encoder")[:6])


def test_what_does_not_fit_alone_fails() -> None:
    subject = bench(make_step=Small(rows=0))
    tickets = [subject.submit(request(number)) for number in range(2)]
    subject.finish()
    for ticket in tickets:
        with pytest.raises(torch.OutOfMemoryError):
            list(ticket)


# -- a fair share ----------------------------------------------------------------------------------------------


def test_a_long_job_does_not_hold_up_short_ones_and_short_ones_not_it() -> None:
    clock = Clock()
    subject = bench(slots=1, turn_steps=10, clock=clock)
    long = subject.submit(request(0, num_steps=60))
    subject.tick(2)
    ended = []
    for number in range(40):
        short = subject.submit(request(1 + number % 7, num_steps=3))
        for _ in range(16):  # more work arrives than is done
            subject.tick()
            clock.now_s += 0.1
        ended.append(short.is_ended)
    assert ended[0], "a turn of ten steps, then the short one"
    assert long.is_ended, "short ones keep coming, and it got its turns"
    assert_same(list(long), reference(request(0, num_steps=60)))


def test_the_more_urgent_goes_first_unless_the_other_has_waited_long() -> None:
    def order(waited_s: float) -> list[str]:
        clock = Clock()
        subject = bench(slots=1, clock=clock, aging_s=10.0)
        subject.submit(request(0, num_steps=3))
        subject.tick()
        low = subject.submit(request(1, num_steps=1))
        clock.now_s += waited_s
        high = subject.submit(request(2, num_steps=1, priority=1))
        seen: list[str] = []
        for _ in range(12):
            subject.tick()
            seen += [name for name, it in (("low", low), ("high", high)) if it.is_ended and name not in seen]
        return seen

    assert order(waited_s=5) == ["high", "low"]
    assert order(waited_s=15) == ["low", "high"]


def test_one_who_does_not_take_the_steps_waits_and_holds_nobody_up() -> None:
    subject = bench(slots=2, steps_ahead=3)
    slow, quick = subject.submit(request(0, num_steps=6)), subject.submit(request(1, num_steps=2))
    subject.tick(20)
    assert quick.is_ended
    assert not slow.is_ended
    taken = []
    for _ in range(7):
        taken.append(next(slow))
        subject.tick()
    assert_same(taken, whole(0, "encoder"))


# -- frames ----------------------------------------------------------------------------------------------------


def test_frames_come_when_they_are_wanted_and_are_the_pictures_of_their_steps() -> None:
    subject = bench()
    every, never = subject.submit(request(0, num_steps=7, frame_every=3)), subject.submit(request(1, frame_every=None))
    subject.finish()
    steps = list(every)
    assert [step.index for step in steps if step.frame_HWC is not None] == [0, 3, 6, 7]
    for step in steps:
        if step.frame_HWC is not None:
            assert step.frame_HWC.numpy().tobytes() == to_image(step.image_CHW).tobytes()
    assert not any(step.frame_HWC is not None for step in never)


# -- with its thread -------------------------------------------------------------------------------------------


def test_many_callers_get_their_own_steps() -> None:
    with Engine(EngineConfig(slots=3)) as engine:
        tickets = [engine.submit(request(number, num_steps=number)) for number in range(7)]
        for number, ticket in enumerate(tickets):
            assert_same(list(ticket), whole(number, "encoder")[: number + 1])


def test_whoever_waits_is_let_in_though_nobody_calls() -> None:
    """No Step is taken until all have ended, so no caller wakes the engine."""
    with Engine(EngineConfig(slots=1, steps_ahead=NEVER)) as engine:
        tickets = [engine.submit(request(number, 2)) for number in range(3)]
        assert len(list(tickets[2])) == 3
    with Engine(EngineConfig(slots=1, steps_ahead=1)) as engine:
        held, waiting = engine.submit(request(0, NEVER)), engine.submit(request(1, 0))
        while held.has_room:
            time.sleep(0.001)
        held.cancel()
        assert [step.index for step in waiting] == [0]


def test_a_full_engine_says_so_and_takes_more_when_one_has_ended() -> None:
    with Engine(EngineConfig(slots=1, max_waiting=1, steps_ahead=1)) as engine:
        first, second = engine.submit(request(0, 50)), engine.submit(request(1, 0))
        with pytest.raises(EngineFull, match="Try again"):
            engine.submit(request(2))
        first.cancel()
        assert [step.index for step in second] == [0]
        assert [step.index for step in engine.submit(request(3, 0))] == [0]


def test_leaving_the_context_of_a_ticket_cancels_it() -> None:
    with Engine(EngineConfig(slots=1, steps_ahead=1)) as engine:
        with engine.submit(request(0, NEVER)) as ticket:
            next(ticket)
        assert len(list(ticket)) <= 2
        assert ticket.reason is StopReason.CANCELED


def test_closing_ends_whoever_is_left() -> None:
    engine = Engine(EngineConfig(slots=1, steps_ahead=1))
    tickets = [engine.submit(request(number, NEVER)) for number in range(2)]
    next(tickets[0])
    engine.close()
    for ticket in tickets:
        with pytest.raises(EngineClosed):
            list(ticket)
    with pytest.raises(EngineClosed, match="another"):
        engine.submit(request())


def test_what_cannot_work_is_refused_at_once() -> None:
    with Engine() as engine:
        with pytest.raises(OptionInvalid, match="optimizer"):
            engine.submit(request(optimizer="newton"))
        kept = reference(request(0, 1, optimizer="lbfgs"))[1].checkpoint()
        with pytest.raises(OptionInvalid, match="checkpoint"):
            engine.submit(request(resume=kept))
    with pytest.raises(ValueError, match="shape"):
        replace(request(), target_CHW=torch.zeros(3, 8, 8))
    with pytest.raises(OptionInvalid, match="target_loss"):
        StopRules(target_loss=0.0)
