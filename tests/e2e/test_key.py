"""The page where the service takes a key: asked for once, kept out of reach of scripts, forgotten when told to."""

from __future__ import annotations

from pathlib import Path

from drawn_face import draw_face
from playwright.sync_api import Browser, expect


def test_asks_for_the_key_and_then_everything_works(
    browser: Browser, guarded: tuple[str, str], tmp_path: Path, screenshots: Path
) -> None:
    """Pictures and events too, which the browser asks for by itself."""
    url, key = guarded
    photo = tmp_path / "face.png"
    draw_face((256, 256)).save(photo)
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto(url)
    expect(page.locator("#key-form")).to_be_visible()
    page.screenshot(path=screenshots / "key.png", full_page=True)
    page.fill("#key", "inv_wrong")
    page.click("#key-form button")
    expect(page.locator("#problem-title")).to_have_text("The API key is not valid")

    page.fill("#key", key)
    page.click("#key-form button")
    expect(page.locator("#key-form")).to_be_hidden()
    page.locator("#pack option[value=fake-32]").wait_for(state="attached")
    page.set_input_files("#photo", photo)
    page.click("#submit")
    expect(page.locator("#status")).to_have_text("Found it")
    expect(page.locator("#frame")).to_be_visible()
    assert page.evaluate("document.querySelector('#aligned').naturalWidth") > 0
    assert key not in page.evaluate("document.cookie + JSON.stringify(localStorage)")

    page.reload()
    expect(page.locator("#status")).to_have_text("Found it")
    page.click("#forget-key")
    expect(page.locator("#key-form")).to_be_visible()
    assert context.cookies() == []
    context.close()
    assert errors == []


def test_the_address_that_make_serve_prints_opens_the_page(browser: Browser, local: tuple[str, str]) -> None:
    """And stays open without it: the token is in a cookie by then, and no longer in the address."""
    url, token = local
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    expect(page.locator("#key-form")).to_be_visible()
    page.goto("about:blank")
    for address in (f"{url}/#token={token}", url):
        page.goto(address)
        page.locator("#pack option[value=fake-32]").wait_for(state="attached")
        expect(page.locator("#key-form")).to_be_hidden()
        assert page.evaluate("location.href") in (url, f"{url}/")
    assert token not in page.evaluate("document.cookie + JSON.stringify(localStorage) + JSON.stringify(history.state)")
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["value"]) == (True, "Strict", token)
    context.close()
