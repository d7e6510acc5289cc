"""What else a person may do on the page: masks, codes to start from, rules to stop by, several photos at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from drawn_face import draw_face
from PIL import Image
from playwright.sync_api import Page, expect

DESKTOP = {"viewport": {"width": 1200, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
DARK = {"viewport": {"width": 1200, "height": 900}, "color_scheme": "dark"}
LOOKS = pytest.mark.parametrize("page", [DESKTOP, PHONE, DARK], ids=["desktop", "phone", "dark"], indirect=True)
SIZE = (300, 200)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A drawn face beside nothing."""
    path = tmp_path / "face.png"
    picture = Image.new("RGB", SIZE, "grey")
    picture.paste(draw_face((200, 200)), (50, 0))
    picture.save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path, photo: Path) -> list[Path]:
    """Two faces, and a photo of none."""
    other, plain = tmp_path / "other.png", tmp_path / "plain.png"
    draw_face((256, 256)).save(other)
    Image.new("RGB", (100, 100), "white").save(plain)
    return [photo, other, plain]


def options(page: Page) -> None:
    page.locator("summary", has_text="Options").click()


def found(page: Page) -> dict[str, Any]:
    """The inversion that the page shows, once it has succeeded."""
    expect(page.locator("#work")).to_be_visible()  # what was there before has the same words
    expect(page.locator("#status")).to_have_text("Found it")
    parts = urlsplit(page.url)
    answer = page.request.get(f"{parts.scheme}://{parts.netloc}/v1/inversions/{parts.fragment}")
    return dict(answer.json())


def no_sideways(page: Page) -> None:
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width == 0, "the page must not scroll sideways"


def mask_of(job: dict[str, Any], env: dict[str, str]) -> Image.Image:
    """As the service has it."""
    (mask,) = Path(env["INVERSION_ARTIFACTS_URL"].removeprefix("file://")).glob(f"inversion-*/{job['id']}/mask.png")
    return Image.open(mask)


def drag(page: Page, *places: tuple[float, float]) -> None:
    """A stroke, in parts of the photo's width and height."""
    page.locator("#mask-canvas").scroll_into_view_if_needed()
    box = page.locator("#mask-canvas").bounding_box()
    assert box is not None
    for index, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if index == 0:
            page.mouse.down()
    page.mouse.up()


class TestMask:
    @LOOKS
    def test_painted(
        self, page: Page, photo: Path, service_env: dict[str, str], screenshots: Path, request: pytest.FixtureRequest
    ) -> None:
        """What was painted over is black in a mask as large as the photo, and the rest white."""
        expect(page.locator("#mask-box")).to_be_hidden()
        page.set_input_files("#photo", photo)
        page.locator("#mask-box summary").click()
        drag(page, (0.1, 0.2), (0.9, 0.2))
        expect(page.locator("#mask-state")).to_have_text("painted")
        page.click("#mask-undo")
        expect(page.locator("#mask-state")).to_have_text("")
        drag(page, (0.2, 0.1), (0.2, 0.9))
        drag(page, (0.3, 0.5), (0.5, 0.5))
        page.screenshot(path=screenshots / f"{request.node.callspec.id}-mask.png", full_page=True)
        no_sideways(page)
        options(page)
        page.fill("[name=steps]", "3")
        page.click("#submit")
        job = found(page)
        assert job["masked"] is True
        expect(page.locator("#status-note")).to_contain_text("painted over")
        mask = mask_of(job, service_env)
        assert (mask.mode, mask.size) == ("L", SIZE)
        for place, value in (((60, 20), 0), ((60, 180), 0), ((120, 100), 0), ((200, 100), 255), ((120, 40), 255)):
            assert mask.getpixel(place) == value, place

    def test_a_file(self, page: Page, photo: Path, tmp_path: Path, service_env: dict[str, str]) -> None:
        mask = Image.new("L", SIZE, "white")
        mask.paste(0, (0, 0, 100, 200))
        mask.save(tmp_path / "mine.png")
        page.set_input_files("#photo", photo)
        page.locator("#mask-box summary").click()
        page.set_input_files("#mask-file", tmp_path / "mine.png")
        expect(page.locator("#mask-state")).to_have_text("mine.png")
        expect(page.locator("#easel")).to_be_hidden()
        page.click("#submit")
        assert np.array_equal(np.asarray(mask_of(found(page), service_env)), np.asarray(mask))

    def test_nothing_painted_is_no_mask_and_another_photo_begins_anew(self, page: Page, photos: list[Path]) -> None:
        page.set_input_files("#photo", photos[0])
        page.locator("#mask-box summary").click()
        drag(page, (0.1, 0.2), (0.9, 0.2))
        page.set_input_files("#photo", photos[1])
        expect(page.locator("#mask-state")).to_have_text("")
        page.click("#submit")
        assert found(page)["masked"] is False


class TestStart:
    def test_a_code_of_ones_own(self, page: Page, photo: Path, tmp_path: Path) -> None:
        code = np.linspace(0, 1, 32, dtype=np.float32).reshape(4, 8)
        np.save(tmp_path / "mine.npy", code)
        page.set_input_files("#photo", photo)
        options(page)
        expect(page.locator("#code")).to_be_hidden()
        page.select_option("#start-kind", "latents")
        page.click("#submit")  # the field is required now
        assert page.evaluate("document.activeElement.id") == "code"
        page.set_input_files("#code", tmp_path / "mine.npy")
        page.fill("[name=steps]", "0")
        page.click("#submit")
        job = found(page)
        assert job["options"]["start"] == "latents"
        with page.expect_download() as download:
            page.click("#get-npy")
        assert np.array_equal(np.load(download.value.path()), code)

    def test_one_that_is_none_says_what_to_do(self, page: Page, photo: Path) -> None:
        page.set_input_files("#photo", photo)
        options(page)
        page.select_option("#start-kind", "latents")
        page.set_input_files("#code", photo)
        page.click("#submit")
        expect(page.get_by_role("alert")).to_contain_text("The start code cannot be used")

    def test_going_on_from_what_was_found(self, page: Page, photo: Path) -> None:
        """Of the same photo, which the page still has."""
        page.set_input_files("#photo", photo)
        options(page)
        page.fill("[name=steps]", "5")
        page.click("#submit")
        first = found(page)
        page.click("#go-on")
        expect(page.locator("#submit")).to_be_focused()
        expect(page.locator("#start-kind option:checked")).to_have_text("the code of step 5")
        page.fill("[name=steps]", "0")
        page.click("#submit")
        second = found(page)
        assert second["id"] != first["id"]
        assert second["options"]["start"] == "latents"
        assert second["best_loss"] == pytest.approx(first["best_loss"])


def test_the_focus_goes_along_where_one_is_given(page: Page, photo: Path) -> None:
    page.set_input_files("#photo", photo)
    options(page)
    assert (page.get_attribute("#focus", "placeholder") or "").startswith("the pack’s, ")
    page.fill("#focus", "6.5")
    page.click("#submit")
    assert found(page)["options"]["focus"] == 6.5


def test_one_of_several_faces_is_chosen_by_its_number(page: Page, tmp_path: Path) -> None:
    two = tmp_path / "two.png"
    Image.linear_gradient("L").resize((256, 128)).convert("RGB").save(two)
    page.set_input_files("#photo", two)
    options(page)
    page.fill("#face", "1")
    page.click("#submit")
    job = found(page)
    assert (job["options"]["face"], job["face_index"], len(job["faces"])) == (1, 1, 2)
    expect(page.locator("#status-note")).to_contain_text("2 faces in the photo; number 1, counted from 0, is taken.")
    expect(page.locator("#status-note")).to_contain_text("The border cuts the face.")


class TestStop:
    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("target_loss", "9.5", "Stopped at the loss"),
            ("max_seconds", "0.2", "Stopped when its time was up"),
            ("plateau_steps", "3", "Stopped when more steps gained nothing"),
        ],
    )
    def test_rules(self, page: Page, photo: Path, name: str, value: str, said: str) -> None:
        page.set_input_files("#photo", photo)
        options(page)
        page.fill("[name=steps]", "900")
        page.fill(f"[name={name}]", value)
        page.click("#submit")
        job = found(page)
        assert (job["stopped_by"], job["options"][name]) == (name.removesuffix("_steps"), float(value))
        expect(page.locator("#status-note")).to_contain_text(said)

    def test_trying_again(self, page: Page, photo: Path) -> None:
        page.set_input_files("#photo", photo)
        options(page)
        page.fill("[name=steps]", "300")
        page.click("#submit")
        expect(page.locator("#frame")).to_be_visible()
        expect(page.locator("#retry")).to_be_hidden()
        page.click("#cancel")
        expect(page.locator("#status")).to_have_text("Canceled")
        first = page.url
        page.click("#retry")
        expect(page.locator("#frame")).to_be_visible()
        page.wait_for_url(lambda url: url != first)
        page.click("#cancel")
        expect(page.locator("#status")).to_have_text("Canceled")


class TestSeveral:
    @LOOKS
    def test_a_tile_each(
        self, page: Page, photos: list[Path], screenshots: Path, request: pytest.FixtureRequest
    ) -> None:
        kind = request.node.callspec.id
        page.set_input_files("#photo", photos)
        expect(page.locator("#photo-name")).to_have_text("3 photos")
        expect(page.locator("#mask-box")).to_be_hidden()
        options(page)
        assert page.locator("#start-kind option[value=latents]").is_disabled()
        page.fill("[name=steps]", "20")
        page.screenshot(path=screenshots / f"{kind}-several-start.png", full_page=True)
        page.click("#submit")
        expect(page.locator("#batch-status")).to_be_focused()
        expect(page.locator("#tiles li")).to_have_count(3)
        page.screenshot(path=screenshots / f"{kind}-several-running.png", full_page=True)
        expect(page.locator("#batch-status")).to_have_text("2 of 3 found")
        expect(page.locator("#tiles span")).to_have_text(["Found it", "Found it", "No face was found in the photo"])
        expect(page.locator("#batch-note")).to_have_text("1 failed")
        page.screenshot(path=screenshots / f"{kind}-several.png", full_page=True)
        no_sideways(page)

    def test_there_and_back(self, page: Page, photos: list[Path]) -> None:
        page.set_input_files("#photo", photos)
        page.click("#submit")
        expect(page.locator("#batch-status")).to_have_text("2 of 3 found")
        page.locator("#tiles a").nth(1).click()
        assert found(page)["batch"]
        page.locator("#to-batch a").click()
        expect(page.locator("#tiles li")).to_have_count(3)
        expect(page.locator("#work")).to_be_hidden()
        page.reload()
        expect(page.locator("#batch-status")).to_have_text("2 of 3 found")

    def test_cancel_and_delete(self, page: Page, photos: list[Path]) -> None:
        page.set_input_files("#photo", photos[:2])
        options(page)
        page.fill("[name=steps]", "1000")
        page.click("#submit")
        page.click("#batch-cancel")
        expect(page.locator("#tiles span")).to_have_text(["Canceled", "Canceled"])
        address = page.url
        page.on("dialog", lambda dialog: dialog.accept())
        page.click("#batch-delete")
        expect(page.locator("#start")).to_be_visible()
        expect(page.locator("#submit")).to_be_disabled()
        page.goto("about:blank")
        page.goto(address)
        expect(page.get_by_role("alert")).to_contain_text("This batch is gone")

    def test_one_that_is_broken_stops_all(self, page: Page, photos: list[Path], tmp_path: Path) -> None:
        (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
        page.set_input_files("#photo", [*photos, tmp_path / "broken.jpg"])
        page.click("#submit")
        expect(page.get_by_role("alert")).to_contain_text("Of photo 3, counted from 0")
        expect(page.locator("#submit")).to_be_enabled()
        listed = json.loads(page.request.get(page.url + "v1/inversions?limit=1").text())["inversions"]
        assert all(one["batch"] is None or one["status"] != "queued" for one in listed)
