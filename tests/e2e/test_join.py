"""From the public page of a running relay to a working profile, as a newcomer goes."""

from __future__ import annotations

import io
import shutil

import PIL.Image
import pytest
import zxingcpp
from playwright.sync_api import sync_playwright

from tests.e2e.cores import Cores, await_text, introduce
from tests.e2e.relay import Relay
from tests.e2e.test_page import CHROMIUM, FLAGS
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.skipif(not shutil.which(CHROMIUM), reason="needs a Chromium")


def test_account_from_the_page_works_in_a_core(relay: Relay, cores: Cores) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(ignore_https_errors=True)
        page.set_default_timeout(PATIENCE_S * 1000)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"https://127.0.0.1:{relay.ports['https']}/")
        page.get_by_role("button", name="Create account").click()
        link = page.get_by_role("link", name="Open in Delta Chat")
        link.wait_for()
        href = link.get_attribute("href")
        code = page.locator(".qr img")
        code.evaluate("image => image.decode()")  # it is drawn later than the link beside it
        shot = code.screenshot()
        browser.close()
    decoded = zxingcpp.read_barcodes(PIL.Image.open(io.BytesIO(shot)))[0].text
    assert decoded == href
    assert complaints == []

    newcomer = cores.deltachat.add_account()
    newcomer.add_transport_from_qr(decoded)
    newcomer.bring_online()
    friend = cores.online(relay)
    newcomer_chat, _ = introduce(newcomer, friend)
    newcomer_chat.send_text("welcome")
    await_text(friend, "welcome")
