"""What a person does on the page, and sees."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from drawn_face import draw_face
from PIL import Image
from playwright.sync_api import Page, expect

DESKTOP = {"viewport": {"width": 1200, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
DARK = {"viewport": {"width": 1200, "height": 900}, "color_scheme": "dark"}
WAIT_MS = 60_000
"""Patience of every expectation: a busy machine is slow, and a test that passes does not wait."""
expect.set_options()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A drawn face."""
    path = tmp_path / "face.png"
    draw_face((256, 256)).save(path)
    return path


def start(page: Page, photo: Path, **options: str) -> None:
    """Choose the photo, set number fields, and start."""
    page.set_input_files("#photo", photo)
    if options and not page.locator("[name=steps]").is_visible():
        page.click("summary")
    for name, value in options.items():
        page.fill(f"[name={name}]", value)
    page.click("#submit")


def see_result(page: Page) -> None:
    expect(page.locator("#status")).to_have_text("Found it")


@pytest.mark.parametrize("page", [DESKTOP, PHONE, DARK], ids=["desktop", "phone", "dark"], indirect=True)
def test_from_a_photo_to_its_code(page: Page, photo: Path, screenshots: Path, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.id
    page.screenshot(path=screenshots / f"{kind}-1-start.png", full_page=True)
    start(page, photo, steps="150")
    expect(page.locator("#status")).to_have_text(re.compile(r"Step \d+ of 150"))
    expect(page.locator("#aligned")).to_be_visible()
    expect(page.locator("#frame")).to_be_visible()
    expect(page.locator("#chart .curve")).to_be_attached()
    page.screenshot(path=screenshots / f"{kind}-2-running.png", full_page=True)
    see_result(page)
    expect(page.locator("#scrubber")).to_have_attribute("max", "30")  # 31 frames: 0, 5, ... 150
    expect(page.locator("#frame-caption")).to_contain_text("step 150")
    page.screenshot(path=screenshots / f"{kind}-3-result.png", full_page=True)
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width == 0, "the page must not scroll sideways"


def test_downloads(page: Page, photo: Path) -> None:
    start(page, photo, steps="3")
    see_result(page)
    found = {}
    for name in ("npy", "json", "image", "aligned"):
        with page.expect_download() as download:
            page.click(f"#get-{name}")
        found[name] = Path(download.value.path()).read_bytes()
    code = np.load(io.BytesIO(found["npy"]))
    body = json.loads(found["json"])
    assert code.shape == (4, 8)
    assert (body["shape"], body["pack"]["name"]) == ([4, 8], "fake-32")
    np.testing.assert_array_equal(np.array(body["latents"], np.float32), code)
    assert Image.open(io.BytesIO(found["image"])).size == (32, 32)
    assert Image.open(io.BytesIO(found["aligned"])).format == "PNG"


def test_scrub_and_play_by_keyboard(page: Page, photo: Path) -> None:
    start(page, photo, steps="20")
    see_result(page)
    expect(page.locator("#scrubber")).to_have_attribute("max", "4")
    page.focus("#scrubber")
    page.keyboard.press("Home")
    expect(page.locator("#frame-caption")).to_contain_text("step 0")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#frame-caption")).to_contain_text("step 5")
    expect(page.locator("#chart-value")).to_contain_text("at step 5")
    expect(page.locator("#scrubber")).to_have_attribute("aria-valuetext", "Step 5")
    page.focus("#play")
    page.keyboard.press("Enter")
    expect(page.locator("#frame-caption")).to_contain_text("step 20")
    expect(page.locator("#play")).to_have_text("Play")


def test_everything_by_keyboard(page: Page, photo: Path) -> None:
    """The photo's field is reached with Tab and opens with Enter, and Enter on the button starts."""
    page.on("filechooser", lambda chooser: chooser.set_files(photo))
    for _ in range(6):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "photo":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#photo-name")).to_have_text("face.png")
    page.focus("#submit")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_be_focused()


def test_drop_and_paste(page: Page, photo: Path) -> None:
    for kind in ("drop", "paste"):
        page.evaluate(
            """([kind, bytes]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], `${kind}.png`, {type: "image/png"}));
                const event = kind === "drop"
                    ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
                    : new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
                document.body.dispatchEvent(event);
            }""",
            [kind, list(photo.read_bytes())],
        )
        expect(page.locator("#photo-name")).to_have_text(f"{kind}.png")
    expect(page.locator("#submit")).to_be_enabled()


def test_a_reload_loses_nothing(page: Page, photo: Path) -> None:
    start(page, photo, steps="20")
    see_result(page)
    page.reload()
    see_result(page)
    expect(page.locator("#scrubber")).to_have_attribute("max", "4")
    expect(page.locator("#chart .curve")).to_be_attached()
    expect(page.locator("#get-npy")).to_be_visible()


def test_without_events_it_polls(page: Page, photo: Path) -> None:
    page.route("**/events", lambda route: route.abort())
    start(page, photo, steps="60")
    expect(page.locator("#frame")).to_be_visible()
    see_result(page)
    expect(page.locator("#scrubber")).to_have_attribute("max", "12")


def test_no_face(page: Page, tmp_path: Path, screenshots: Path) -> None:
    plain = tmp_path / "plain.png"
    Image.new("RGB", (100, 100), "white").save(plain)
    start(page, plain)
    expect(page.get_by_role("alert")).to_contain_text("No face was found")
    expect(page.locator("#status")).to_have_text("That did not work")
    expect(page.locator("#downloads")).to_be_hidden()
    page.screenshot(path=screenshots / "no-face.png", full_page=True)
    page.click("#again")
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#submit")).to_be_disabled()


def test_a_refused_photo_says_what_to_do(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff and no more")
    start(page, broken)
    expect(page.get_by_role("alert")).to_contain_text("The picture cannot be read")
    expect(page.get_by_role("alert")).to_contain_text("save it again")
    expect(page.locator("#start")).to_be_visible()
    expect(page.locator("#submit")).to_be_enabled()


def test_the_line_and_cancel(page: Page, photo: Path) -> None:
    """A second inversion waits behind the first, which runs for as long as it is not canceled."""
    second = page.context.new_page()
    second.goto(page.url)
    third = page.context.new_page()
    third.goto(page.url)
    start(page, photo, steps="1000")
    expect(page.locator("#status")).to_have_text(re.compile(r"Step \d+ of 1000"))
    start(second, photo, steps="1")
    expect(second.locator("#status")).to_have_text("Waiting for a worker")
    start(third, photo, steps="1")
    expect(third.locator("#status")).to_have_text("Waiting, 1 ahead")
    page.click("#cancel")
    expect(page.locator("#status")).to_have_text("Canceled")
    expect(page.locator("#get-npy")).to_be_visible()  # what was found by then stays
    expect(page.locator("#status-note")).to_contain_text("Best by then: step")
    see_result(second)
    see_result(third)


def test_delete_leaves_nothing(page: Page, photo: Path) -> None:
    start(page, photo, steps="3")
    see_result(page)
    expect(page.locator("#expiry")).to_contain_text("are deleted on")
    address = page.locator("#get-image").get_attribute("href")
    assert address is not None
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#delete")
    expect(page.locator("#start")).to_be_visible()
    assert page.request.get(page.url.rstrip("/") + address).status == 404


def test_an_address_of_something_deleted(page: Page) -> None:
    address = page.url + "#" + "0" * 32
    page.goto("about:blank")  # else only the fragment changes, and no page is loaded
    page.goto(address)
    expect(page.get_by_role("alert")).to_contain_text("gone")
    expect(page.locator("#start")).to_be_visible()


def test_the_reference_of_the_api(page: Page, screenshots: Path) -> None:
    """Swagger UI comes from this host: a request to another one fails the fixture."""
    page.goto(page.url + "docs#/inversions/inversions_submit")  # the address opens the operation
    page.get_by_role("button", name="Try it out").press("Enter")  # a click waits for the page to stop scrolling to it
    expect(page.locator("input[type=file]").first).to_be_visible()
    page.screenshot(path=screenshots / "docs.png")
