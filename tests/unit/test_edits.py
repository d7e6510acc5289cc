"""Edit lists: reading, writing and applying them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inversion_core.editing import Code, apply_edits, move, own_codes, parse_edits, parse_short, to_json
from inversion_core.editing.domain import centre, random_codes
from inversion_core.editing.follow import follow
from inversion_core.errors import OptionInvalid
from inversion_core.inverter import start_codes
from inversion_core.latents import Latent
from inversion_core.options import InvertConfig
from inversion_core.packs import Direction, DirectionSpec, Pack
from tests.tiny import rough_pack, tiny_pack

pytestmark = pytest.mark.unit

NAMES = ("smile", "age", "yaw")
SPEC = DirectionSpec(name="smile", label="Smile", range=(-2.0, 2.0), unit="1 SD", source="made up")


def pack_with_directions() -> Pack:
    pack, draw = rough_pack(), torch.Generator().manual_seed(5)
    pack.directions = {
        name: Direction(spec=dataclasses.replace(SPEC, name=name), step_LD=0.3 * torch.randn(6, 12, generator=draw))
        for name in NAMES
    }
    return pack


PACK = pack_with_directions()


def codes(count: int = 2, seed: int = 3) -> Tensor:
    return PACK.mean_codes(count) + 0.5 * torch.randn(count, 6, 12, generator=torch.Generator().manual_seed(seed))


def with_detail(count: int = 2, px: int = 8) -> Latent:
    draw = torch.Generator().manual_seed(9)
    return Latent(w_BLD=codes(count), detail_BCHW=torch.randn(count, {8: 12, 16: 8}[px], px, px, generator=draw))


def applied(edits: list[dict[str, Any]], latent: Latent | None = None) -> Latent:
    return apply_edits(PACK, latent or Latent(w_BLD=codes()), parse_edits(edits))


def same(one: Latent, other: Latent) -> bool:
    tensors, others = one.tensors(), other.tensors()
    return tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in tensors)


# -- reading and writing -------------------------------------------------------------------------------------

numbers = st.floats(-2, 2, width=32)
shares = st.floats(0, 1)
shapes = st.one_of(
    st.builds(lambda x, y, r: {"ellipse": [x, y, r, r]}, shares, shares, st.floats(0.01, 1)),
    st.builds(lambda x, y: {"box": [x, y, x + 0.5, y + 0.5]}, shares, shares),
    st.lists(st.tuples(shares, shares).map(list), min_size=3, max_size=6).map(lambda points: {"polygon": points}),
)
masks = st.builds(
    lambda shape, feather, outside: {**shape, "feather": feather} | ({"outside": True} if outside else {}),
    shapes,
    st.floats(0, 0.5).filter(lambda feather: feather != 0.05),
    st.booleans(),
)
layers = st.tuples(st.integers(0, 5), st.integers(0, 5)).map(sorted)
code_of = st.one_of(
    st.integers(0, 99).map(lambda seed: {"seed": seed}),
    numbers.map(lambda number: {"latents": [[number] * 12] * 6}),
)
kinds = st.one_of(
    st.fixed_dictionaries(
        {"direction": st.just("smile"), "strength": numbers},
        optional={"hold": st.sampled_from([["age"], ["age", "yaw"]])},
    ),
    st.fixed_dictionaries({"mix": code_of}, optional={"amount": st.floats(0, 1, exclude_max=True)}),
    st.fixed_dictionaries({"truncate": numbers}),
)
shared = st.fixed_dictionaries({}, optional={"layers": layers, "mask": masks})
lists = st.lists(st.builds(lambda kind, more: {**kind, **more}, kinds, shared), max_size=4)


@settings(deadline=None)
@given(lists)
def test_a_list_survives_being_written_and_read(data: list[dict[str, Any]]) -> None:
    edits = parse_edits(json.loads(json.dumps(data)))
    assert to_json(edits) == data
    assert parse_edits(json.loads(json.dumps(to_json(edits)))) == edits


leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
keys = st.sampled_from(["direction", "strength", "mix", "truncate", "layers", "mask", "hold", "seed", "box", "x"])
anything = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4))


@settings(max_examples=300, deadline=None)
@given(anything | st.lists(st.dictionaries(keys, anything, max_size=4), max_size=3))
def test_whatever_comes_is_read_or_refused_with_its_place(data: object) -> None:
    try:
        edits = parse_edits(json.loads(json.dumps(data)))
    except OptionInvalid as error:
        message = str(error)
    else:
        message = "edits"
        assert parse_edits(to_json(edits)) == edits
    assert message.startswith("edits")


POLYGON = {"polygon": [[0, 0], [1, 0], [1, 1]]}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"direction": "smile", "strength": 1}, "edits is .* must be a list"),
        ([{"truncate": 0.5}] * 33, "33 entries; at most 32"),
        (["smile"], r"edits\[0\] is \"smile\"; it must be a JSON object"),
        ([{"truncate": 1}, {}], r"edits\[1\] says not what it is; give exactly one of 'direction', 'mix', 'truncate'"),
        ([{"truncate": 1, "mix": {"seed": 1}}], r"edits\[0\] has 'mix' and 'truncate'; give exactly one"),
        ([{"direction": "smile"}], r"edits\[0\]\.strength is missing"),
        ([{"direction": "smile", "strength": float("nan")}], r"edits\[0\]\.strength is NaN; give a number from -100"),
        ([{"direction": "smile", "strength": float("inf")}], r"edits\[0\]\.strength is Infinity"),
        ([{"direction": "smile", "strength": 101}], r"edits\[0\]\.strength is 101; give a number from -100 to 100"),
        ([{"direction": "smile", "strength": True}], r"edits\[0\]\.strength is true"),
        ([{"direction": "smile", "strength": 10**400}], r"edits\[0\]\.strength is 10"),
        ([{"direction": "", "strength": 1}], r"edits\[0\]\.direction is \"\"; give a text"),
        ([{"direction": "smile", "strength": 1, "speed": 2}], r"edits\[0\] has the unknown key \"speed\"; known here"),
        ([{"direction": "smile", "strength": 1, "hold": ["smile"]}], r"edits\[0\]\.hold names 'smile' itself"),
        ([{"direction": "smile", "strength": 1, "hold": ["age", "age"]}], r"edits\[0\]\.hold .* name each once"),
        ([{"direction": "smile", "strength": 1, "hold": "age"}], r"edits\[0\]\.hold is \"age\"; give a list"),
        ([{"truncate": 1, "layers": [3, 2]}], r"edits\[0\]\.layers must be the first and the last layer"),
        ([{"truncate": 1, "layers": [0.0, 2]}], r"edits\[0\]\.layers must be"),
        ([{"truncate": 1, "layers": [-1, 2]}], r"edits\[0\]\.layers must be"),
        ([{"truncate": 3}], r"edits\[0\]\.truncate is 3; give a number from -2 to 2"),
        ([{"mix": {"seed": 1}, "amount": 1.5}], r"edits\[0\]\.amount is 1.5; give a number from 0 to 1"),
        ([{"mix": 7}], r"edits\[0\]\.mix is 7; it must be a JSON object"),
        ([{"mix": {}}], r"edits\[0\]\.mix says not what it is; give exactly one of 'inversion', 'latents', 'seed'"),
        ([{"mix": {"seed": -1}}], r"edits\[0\]\.mix\.seed is -1"),
        ([{"mix": {"latents": [[1.0], [1.0, 2.0]]}}], r"edits\[0\]\.mix\.latents\[1\] must be a list"),
        ([{"mix": {"latents": [[float("nan")]]}}], r"edits\[0\]\.mix\.latents\[0\] has NaN"),
        ([{"mix": {"latents": []}}], r"edits\[0\]\.mix\.latents is \[\]"),
        ([{"truncate": 0, "mask": {}}], r"edits\[0\]\.mask says not what it is; give exactly one of 'ellipse', 'box'"),
        ([{"truncate": 0, "mask": {"box": [0, 0, 1]}}], r"edits\[0\]\.mask\.box .* a list of 4 numbers"),
        ([{"truncate": 0, "mask": {"box": [1, 0, 0, 1]}}], r"edits\[0\]\.mask\.box .* left, top, right, bottom"),
        ([{"truncate": 0, "mask": {"ellipse": [0, 0, 0, 1]}}], r"edits\[0\]\.mask\.ellipse .* radii"),
        ([{"truncate": 0, "mask": {"polygon": [[0, 0]]}}], r"edits\[0\]\.mask\.polygon .* points"),
        ([{"truncate": 0, "mask": POLYGON | {"feather": 1}}], r"edits\[0\]\.mask\.feather is 1"),
        ([{"truncate": 0, "mask": POLYGON | {"outside": 1}}], r"edits\[0\]\.mask\.outside is 1; give true or false"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_remedy(data: object, words: str) -> None:
    with pytest.raises(OptionInvalid, match=words):
        parse_edits(data)


def test_a_message_stays_short() -> None:
    with pytest.raises(OptionInvalid) as caught:
        parse_edits([{"direction": "x" * 10_000, "strength": 1}])
    assert len(str(caught.value)) < 200


def test_the_short_form() -> None:
    assert parse_short("smile:1.5") == {"direction": "smile", "strength": 1.5}
    assert parse_short("truncate:0.7") == {"truncate": 0.7}
    for wrong in ("smile", "smile:", ":1", "smile:much", "smile:1:2"):
        with pytest.raises(OptionInvalid, match="edit is"):
            parse_short(wrong)


def test_a_list_is_read_without_torch() -> None:
    program = "import sys; sys.modules['torch'] = None; from inversion_core.editing import parse_edits; " \
        "print(parse_edits([{'direction': 'smile', 'strength': 1}]))"  # fmt: skip
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


# -- applying ------------------------------------------------------------------------------------------------

NEUTRAL: list[dict[str, Any]] = [
    {"direction": "smile", "strength": 0},
    {"mix": {"seed": 7}, "amount": 0},
    {"truncate": 1},
    {"direction": "age", "strength": -0.0, "mask": {"box": [0, 0, 1, 1]}, "hold": ["yaw"]},
]


@pytest.mark.parametrize("latent", [Latent(w_BLD=codes()), with_detail(px=8), with_detail(px=16)])
@pytest.mark.parametrize("data", [[], *[[each] for each in NEUTRAL], NEUTRAL])
def test_an_empty_list_and_strength_0_change_no_bit(latent: Latent, data: list[dict[str, Any]]) -> None:
    assert same(applied(data, latent), latent)


@settings(max_examples=25, deadline=None)
@given(lists)
def test_every_list_is_applied_to_the_same_bits_twice_and_leaves_its_input(data: list[dict[str, Any]]) -> None:
    latent, kept = with_detail(), with_detail()
    once, again = applied(data, latent), applied(data, latent)
    assert same(once, again)
    assert same(latent, kept)
    assert PACK.synthesize(once).isfinite().all()


def test_edits_are_applied_in_order() -> None:
    w_BLD = codes()
    data: list[dict[str, Any]] = [{"direction": "smile", "strength": 1.5}, {"truncate": 0.5}]
    mean_BLD = centre(PACK)
    moved_BLD = move(w_BLD, PACK.directions["smile"], 1.5)
    assert torch.equal(applied(data).w_BLD, mean_BLD + 0.5 * (moved_BLD - mean_BLD))
    truncated_BLD = mean_BLD + 0.5 * (w_BLD - mean_BLD)
    assert torch.equal(applied(data[::-1]).w_BLD, move(truncated_BLD, PACK.directions["smile"], 1.5))


def test_layers_limit_an_edit() -> None:
    w_BLD = codes()
    edited_BLD = applied([{"direction": "smile", "strength": 1, "layers": [2, 3]}]).w_BLD
    assert torch.equal(edited_BLD[:, [0, 1, 4, 5]], w_BLD[:, [0, 1, 4, 5]])
    assert torch.equal(edited_BLD[:, 2:4], move(w_BLD, PACK.directions["smile"], 1)[:, 2:4])


def test_a_mix_of_all_is_the_other_code_to_the_bit() -> None:
    rows = codes(1, seed=11)[0]
    assert torch.equal(applied([{"mix": {"latents": rows.tolist()}}]).w_BLD, rows.expand(2, -1, -1))
    half_BLD = applied([{"mix": {"latents": rows.tolist()}, "amount": 0.5}]).w_BLD
    torch.testing.assert_close(half_BLD, (codes() + rows) / 2)


def test_a_seed_is_a_random_face_as_the_encoder_sees_it() -> None:
    config = InvertConfig(start="random", seed=7)
    start_BLD = start_codes(PACK, torch.zeros(1, 3, 16, 16), config)
    expected_BLD = PACK.encode(PACK.synthesize(start_BLD).clamp(-1, 1))
    assert torch.equal(own_codes(PACK)(Code(seed=7)).w_BLD, expected_BLD)
    bare = tiny_pack(has_encoder=False)
    start_BLD = start_codes(bare, torch.zeros(1, 3, 16, 16), config)
    assert torch.equal(own_codes(bare)(Code(seed=7)).w_BLD, start_BLD)


def test_the_centre_is_the_mean_of_random_faces() -> None:
    torch.testing.assert_close(centre(PACK), random_codes(PACK, 32).mean(0, keepdim=True))
    bare = tiny_pack(has_encoder=False)
    torch.testing.assert_close(centre(bare), bare.mean_codes())
    assert centre(bare) is centre(bare)


def test_a_centre_found_while_rendering_serves_gradients_too() -> None:
    pack = tiny_pack()
    with torch.inference_mode():
        centre(pack)
    w_BLD = codes(1).requires_grad_()
    ((w_BLD - centre(pack)) * centre(pack)).sum().backward()
    assert w_BLD.grad is not None


def test_truncation_ends_at_the_average() -> None:
    torch.testing.assert_close(applied([{"truncate": 0}]).w_BLD, centre(PACK).expand(2, -1, -1))


def test_codes_are_looked_up_by_the_function_given() -> None:
    edits = parse_edits([{"mix": {"inversion": "abc"}}])
    found = apply_edits(PACK, codes(), edits, own_codes(PACK, {"abc": Latent(w_BLD=codes(1, seed=8))}.__getitem__))
    assert torch.equal(found.w_BLD, codes(1, seed=8).expand(2, -1, -1))
    with pytest.raises(OptionInvalid, match="inversion 'abc' cannot be looked up here"):
        apply_edits(PACK, codes(), edits)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"direction": "smirk", "strength": 0}, r"edits\[0\]\.direction is 'smirk'; pack tiny has smile, age, yaw"),
        ({"direction": "smile", "strength": 1, "hold": ["x"]}, r"edits\[0\]\.hold is 'x'; pack tiny has smile, age"),
        ({"truncate": 0, "layers": [4, 6]}, r"edits\[0\]\.layers is \[4, 6\]; pack tiny has the layers 0 to 5"),
        ({"mix": {"latents": [[1.0, 2.0]]}}, r"latents are \(1, 2\): .* Give a code of this pack"),
    ],
)
def test_what_the_pack_does_not_have_is_refused(edit: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionInvalid, match=words):
        applied([edit])


def test_latents_of_another_pack_are_refused() -> None:
    with pytest.raises(ValueError, match="codes have shape"):
        apply_edits(PACK, torch.zeros(1, 5, 12), parse_edits([{"truncate": 0}]))


# -- local edits ---------------------------------------------------------------------------------------------

LEFT = {"box": [-1, -1, 0.5, 2], "feather": 0.0}


@pytest.mark.parametrize("latent", [Latent(w_BLD=codes()), with_detail()])
def test_a_mask_leaves_the_rest_of_the_picture(latent: Latent) -> None:
    before = PACK.synthesize(latent)
    everywhere = PACK.synthesize(applied([{"truncate": -1}], latent))
    left = PACK.synthesize(applied([{"truncate": -1, "mask": LEFT}], latent))
    torch.testing.assert_close(left[..., 8:], before[..., 8:], atol=1e-5, rtol=0)
    torch.testing.assert_close(left[..., :8], everywhere[..., :8], atol=1e-5, rtol=0)
    right = PACK.synthesize(applied([{"truncate": -1, "mask": LEFT | {"outside": True}}], latent))
    torch.testing.assert_close(right[..., :8], before[..., :8], atol=1e-5, rtol=0)


def test_edits_without_a_mask_are_seen_inside_and_outside() -> None:
    data: list[dict[str, Any]] = [
        {"direction": "age", "strength": 1},
        {"direction": "smile", "strength": 2, "mask": LEFT},
    ]
    picture = PACK.synthesize(applied(data))
    torch.testing.assert_close(picture[..., 8:], PACK.synthesize(applied(data[:1]))[..., 8:], atol=1e-5, rtol=0)
    both = [data[0], {"direction": "smile", "strength": 2}]
    torch.testing.assert_close(picture[..., :8], PACK.synthesize(applied(both))[..., :8], atol=1e-5, rtol=0)


# -- detail --------------------------------------------------------------------------------------------------


def test_detail_follows_once_after_the_whole_list() -> None:
    latent = with_detail()
    edits: list[dict[str, Any]] = [{"direction": "smile", "strength": 2}, {"direction": "age", "strength": -1}]
    w_BLD = applied(edits, Latent(w_BLD=latent.w_BLD)).w_BLD
    assert same(applied(edits, latent), follow(PACK, latent, w_BLD))


def test_a_known_render_changes_nothing() -> None:
    latent, edits = with_detail(), parse_edits([{"truncate": 0.2}, {"direction": "smile", "strength": 1, "mask": LEFT}])
    before_BCHW = torch.cat([PACK.synthesize(w_1LD) for w_1LD in latent.w_BLD.split(1)])
    assert same(apply_edits(PACK, latent, edits), apply_edits(PACK, latent, edits, before_BCHW=before_BCHW))
