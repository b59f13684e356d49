"""The page in a real browser: what a person sees, does, and is kept from."""

from __future__ import annotations

import json

import pytest
from api_server import NOBODY, ApiServer
from dashboard_kit import Served, let_look, served
from scenes import SYMBOLS, Scene, Stage, build_spec

from browser import Page

TWO = ["BTCUSDT", "ETHUSDT"]
NASTY = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"

CONTRASTS = """
(() => {
  const parse = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return text.startsWith('color(srgb') ? [...found.slice(0, 3).map((v) => v * 255), found[3] ?? 1]
      : [found[0], found[1], found[2], found[3] ?? 1];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, place) => sum + v * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255, 1];
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim();
    const node = walker.currentNode.parentElement;
    if (!text || !node.checkVisibility() || ['STYLE', 'SCRIPT'].includes(node.tagName)) continue;
    const style = getComputedStyle(node);
    const colour = parse(node.closest('svg') ? style.fill : style.color);
    const [a, b] = [light(colour), light(behind(node))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) bad.push(`${contrast.toFixed(2)}: ${text}`);
  }
  return bad;
})()
"""
"""Texts whose contrast is less than 4.5 (WCAG 2.2, 1.4.3)."""

NAMELESS = """
[...document.querySelectorAll('button, input, select, svg[role=img], progress, [role=region]')]
  .filter((node) => node.checkVisibility())
  .filter((node) => !(node.ariaLabel || node.textContent.trim() || node.labels?.length))
  .map((node) => node.outerHTML.slice(0, 120))
"""


def open_page(page: Page, dashboard: Served, stage: Stage, name: str = "") -> None:
    page.go(dashboard.url + (f"#/{stage.namespace}/{name}" if name else ""))
    page.waits_for("document.querySelector('h1')")
    page.waits_for("document.querySelector('#link.live')")


def test_from_the_fleet_to_a_rollout_that_goes_on_without_reloading(
    page: Page, dashboard: Served, stage: Stage
) -> None:
    scene = Scene(build_spec(TWO), 9)
    stage.put("demo", scene)
    stage.play("demo", scene, 5)
    open_page(page, dashboard, stage)
    page.shows("1 rollout")
    page.run("window.isTheSame = true")
    page.run("document.querySelector('.fleet a').click()")
    page.shows("How it is judged now")
    assert page.run("document.title") == "Progressing: demo"
    # What a person has opened, chosen and focused stays while the values go on.
    ece = """document.querySelector('[data-key="platt_ece>0.1"]')"""
    page.run(f"{ece}.querySelector('summary').click()")
    page.run(f"{ece}.querySelector('[data-symbol=ETHUSDT]').focus()")
    page.press("Enter")
    chosen = f"{ece}.querySelector('.judged b').innerText"
    page.waits_for(f"{chosen} === 'ETHUSDT'")
    drawn = f"{ece}.querySelector('.line').getAttribute('d')"
    before = page.run(drawn)
    stage.play("demo", scene, 3)
    page.waits_for(f"{drawn} !== {json.dumps(before)}")
    page.waits_for(f"{chosen} === 'ETHUSDT'")
    assert page.run(f"{ece}.querySelector('details').open")
    assert page.run("document.activeElement.dataset.symbol") == "ETHUSDT"
    left = "document.querySelector('.steps .now').innerText"
    page.waits_for(f"{left} !== {json.dumps(page.run(left))}")
    scene.bad["platt_ece", "BTCUSDT"] = 0.4
    while scene.status["phase"] == "Progressing":
        stage.play("demo", scene, 1)
    page.shows("was rolled back")
    page.shows("taken back here")
    assert page.run("window.isTheSame")
    assert page.run("document.title") == "Degraded: demo"


def test_texts_of_objects_are_shown_and_never_run(
    page: Page, dashboard: Served, stage: Stage
) -> None:
    scene = Scene(build_spec(TWO), 5)
    stage.put("demo", scene)
    stage.play("demo", scene, 3)

    status = scene.status
    status |= {"message": NASTY, "next": NASTY}
    status["canary"]["version"] = NASTY
    status["history"][0]["message"] = NASTY
    status["workloads"][0]["message"] = NASTY
    for row in status["symbols"][0]["conditions"]:
        row["message"] = NASTY
    stage.put("demo", scene)
    open_page(page, dashboard, stage, "demo")
    page.waits_for(f"document.body.innerText.split({json.dumps(NASTY)}).length > 5")
    assert page.run("document.querySelectorAll('main img, main script').length") == 0
    open_page(page, dashboard, stage)
    page.shows(NASTY)
    assert page.run("document.title") == "SignalCanary"
    # And were a text ever taken for HTML, the policy would not let it.
    trial = "(() => { try { document.body.innerHTML = '<b>x</b>'; return 'done'; } "
    trial += "catch (error) { return error.name; } })()"
    assert page.run(trial) == "TypeError"
    # The browser tells of that refusal, and of no other.
    refused = [text for text in page.told if "TrustedHTML" in text]
    assert page.told == refused
    page.told.clear()


def test_a_verb_is_asked_for_with_the_keyboard_and_the_operators_word_is_shown(
    page: Page, dashboard: Served, stage: Stage, operator: None
) -> None:
    item = Scene(build_spec(TWO), 5).item()
    spec = {key: item[key] for key in ("apiVersion", "kind", "spec")}
    stage.api.apply({**spec, "metadata": {"name": "demo", "namespace": stage.namespace}})
    open_page(page, dashboard, stage, "demo")
    page.waits_for("document.querySelector('.verbs [data-verb=pause]')")
    page.run("document.querySelector('[data-verb=pause]').focus()")
    page.press("Enter")
    page.waits_for("document.getElementById('dialog').open")
    assert "freeze a rollout" in page.run("document.getElementById('dialog').innerText")
    page.press("Escape")
    page.waits_for("!document.getElementById('dialog').open")
    page.press("Enter")
    page.waits_for("document.getElementById('dialog').open")
    page.run("document.getElementById('dialog-reason').focus()")
    page.call("Input.insertText", text="a <b>look</b>")
    page.press("Enter")
    page.shows("pause: no stage begins or ends")
    page.shows("a <b>look</b>")
    page.waits_for("document.querySelector('.verbs [data-verb=resume]')")
    # One that the operator refuses says why beforehand, and can be asked for all the same.
    page.run("document.querySelector('.beside details summary').click()")
    page.waits_for("document.querySelector('.later [data-verb=retry]').checkVisibility()")
    page.run("document.querySelector('.later [data-verb=retry]').click()")
    page.waits_for("document.getElementById('dialog').open")
    assert "the operator refuses it" in page.run("document.getElementById('dialog').innerText")
    page.run("document.getElementById('dialog-do').click()")
    page.waits_for("document.querySelector('.answer.refused')?.innerText.includes('NotRolledBack')")


def test_who_may_only_look_sees_every_verb_disabled_and_why(
    page: Page, api: ApiServer, stage: Stage
) -> None:
    stage.put("demo", Scene(build_spec(TWO), 5))
    let_look(api, stage.namespace)
    with served(api.kubeconfig(NOBODY), f"--namespace={stage.namespace}") as dashboard:
        open_page(page, dashboard, stage, "demo")
        page.shows("you may not patch signalcanaries")
        buttons = "[...document.querySelectorAll('[data-verb]')]"
        assert page.run(f"{buttons}.length") == 8
        assert page.run(f"{buttons}.every((one) => one.disabled)")
        described = f"{buttons}.map((one) => one.getAttribute('aria-describedby'))"
        assert set(page.run(described)) == {"no-right"}
        dashboard.child.kill()
        page.shows("not live: the page’s server does not answer")
        page.shows("you may not patch")
    # The browser itself tells of the connection that was lost.
    page.told = [text for text in page.told if "ERR_" not in text]


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["wide", "phone"])
def test_it_can_be_read_by_all_on_all(
    page: Page, dashboard: Served, stage: Stage, is_dark: bool, width: int
) -> None:
    scene = Scene(build_spec(SYMBOLS if width > 500 else TWO), 9)
    stage.put("demo", scene)
    scene.bad["lag", "BTCUSDT"] = 9000.0
    stage.play("demo", scene, 4)
    page.look(width, 800, is_dark=is_dark, is_phone=width < 500)
    for name in ("", "demo"):
        open_page(page, dashboard, stage, name)
        page.shows("How it is judged now" if name else "1 rollout")
        page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.run(CONTRASTS) == []
        assert page.run(NAMELESS) == []
        assert page.run("document.documentElement.scrollWidth <= innerWidth"), "it fits"
    assert page.run("document.querySelectorAll('h1').length") == 1
    # All that can be done can be reached: the first stop is the way past the head.
    page.go("about:blank")
    open_page(page, dashboard, stage, "demo")
    page.press("Tab")
    assert page.run("document.activeElement.innerText") == "To the content"
    page.press("Enter")
    assert page.run("document.activeElement.id") == "main"
    assert page.run("location.hash").endswith("/demo")
