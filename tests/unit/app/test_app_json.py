"""JSON from strangers: what it says is what the standard parser says, and what is too much is refused by its shape."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress

import pytest
from app_fakes import picture_bytes
from app_service import Service, refused, url_of
from hypothesis import given
from hypothesis import strategies as st

from inversion_app.codes import JSON_LIMITS
from inversion_app.strict_json import Limits, read_json

pytestmark = pytest.mark.unit

URL = "/v1/inversions"
SMALL = Limits(values=50, texts=20, depth=4, backslashes=10)
NUMBERS = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=4), each, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_it_says_what_the_standard_parser_says(value: object, escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped).encode()
    assert read_json(text, JSON_LIMITS) == json.loads(text)


@given(st.text(st.sampled_from('[]{}",:\\0 ae\n'), max_size=30))
def test_whatever_comes_it_is_a_value_or_a_reason(text: str) -> None:
    with suppress(ValueError):
        assert read_json(text.encode(), SMALL) == json.loads(text)


@given(st.dictionaries(st.text(max_size=3), st.integers(), min_size=1, max_size=4), st.data())
def test_a_key_that_comes_twice(pairs: dict[str, int], data: st.DataObject) -> None:
    """However it is written: `a` is the same key as `\\u0061`."""
    name = data.draw(st.sampled_from(sorted(pairs)))
    again = '"' + "".join(f"\\u{ord(letter):04x}" for letter in name if ord(letter) < 0xD800) + '"'
    body = json.dumps(pairs)[:-1] + ", " + (again if json.loads(again) == name else json.dumps(name)) + ": 1}"
    for text in (body, f'[{body}, {{"b": 0}}]', f'{{"c": {body}}}'):
        with pytest.raises(ValueError, match="twice"):
            read_json(text.encode(), JSON_LIMITS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" + "1," * 50 + "1]", "values"), ("[" + "[]," * 30 + "0]", "values"), ("[" + "{}," * 30 + "0]", "values"),
        ("[" + '"",' * 20 + '""]', "texts"), ("[" * 5 + "]" * 5, "within each other"),
        ('"' + "\\n" * 11 + '"', "escaped"), ('{"a": "\\\\", "a": 1}', "`a` twice"), ('{"\\"": 1, "\\"": 2}', "twice"),
        ("[NaN]", "value"), ("[1e999999]", None), ('"\\ud800"', "escape"), ("{", "EOF"), ("", "EOF"), ("nul", "EOF"),
    ],
)  # fmt: skip
def test_what_is_too_much(text: str, said: str | None) -> None:
    if said is None:  # infinite: refused where it is used
        assert read_json(text.encode(), SMALL) == [float("inf")]
        return
    with pytest.raises(ValueError, match=said):
        read_json(text.encode(), SMALL)


@pytest.mark.parametrize("text", [b"[],", b"{},", b"0,", b'"",', b"[[],", b'\\"', b'"'])
def test_nothing_is_built_of_what_is_refused(text: bytes) -> None:
    """A megabyte of this would be up to 30 of lists."""
    data = b"[" + text * (2_000_000 // len(text)) + b"0]"
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"more than|expected value"):
        read_json(data, JSON_LIMITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(data)


class TestService:
    def test_a_key_twice(self, service: Service) -> None:
        body = f'{{"image": "{url_of(picture_bytes())}", "steps": 5, "steps": 6}}'
        answer = service.post(URL, content=body, headers={"Content-Type": "application/json"})
        assert "`steps` twice" in refused(answer, 422, "json-invalid")

    def test_a_key_twice_in_the_file_of_a_code(self, service: Service) -> None:
        files = {"image": ("a.png", picture_bytes()), "latents": ("a.json", b'{"latents": [[1]], "latents": [[2]]}')}
        assert "`latents` twice" in refused(service.post(URL, files=files), 422, "latents-invalid")

    @pytest.mark.parametrize("value", [{}, [[]], list(range(65)), [{}]])
    def test_an_option_that_holds_too_much(self, service: Service, value: object) -> None:
        answer = service.post(URL, json={"image": url_of(picture_bytes()), "webhook_events": value})
        assert "`webhook_events`" in refused(answer, 422, "option-invalid")
        answer = service.post(URL, json={"image": url_of(picture_bytes()), "nope": value})
        assert "`nope`" in refused(answer, 422, "option-unknown")

    def test_a_form_takes_more_than_json(self, service: Service) -> None:
        """It is kept in a file while it arrives, and JSON in memory while it is parsed."""
        service.app.state.settings = service.app.state.settings.model_copy(update={"max_json_bytes": 2000})
        photo = picture_bytes() + bytes(2000)
        detail = refused(service.post(URL, json={"image": url_of(photo)}), 413, "body-too-large")
        assert "2,000 bytes are taken in JSON, and 200,000 as a form" in detail
        assert service.upload(photo).status_code == 202
