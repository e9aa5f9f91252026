"""The page in Chromium: it loads, steps, and shows the numbers that Python has."""

import json
from html import escape

import numpy as np
import pytest
from chromium import Browser, chromium
from random_reading import STEPS, random_reading, random_trace

from experiments.explain_page import write_page

pytestmark = pytest.mark.skipif(
    chromium() is None, reason="no Chromium here (Debian: apt-get install chromium)"
)

UNITS = 3


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The page's address, and the traces behind it."""
    folder = tmp_path_factory.mktemp("page")
    readings = [random_reading("lstm"), random_reading("rnn_tanh")]
    write_page(folder / "page.html", readings, UNITS)
    traces = {r.cell.name: random_trace(r.cell.name) for r in readings}
    return (folder / "page.html").as_uri(), traces


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(window, written):
    window.size(1200, 2000)  # all of it: nothing scrolls under the pointer
    window.dark(False)
    window.complaints.clear()
    window.open(written[0] + "#t=0&loss=0")
    yield window
    assert not window.complaints


def read(text):
    return float(text.replace("−", "-").replace("∂", ""))


def texts(browser, node):
    return browser.ask(
        f"[...document.querySelectorAll('[data-node={json.dumps(node)}] > text')]"
        ".map((text) => text.textContent)"
    )


def lit(browser, kind):
    return browser.ask(
        f"[...document.querySelectorAll('.{kind}.lit')].map((e) => e.dataset.{kind})"
    )


def choose(browser, control, value):
    browser.ask(
        f"$('{control}').value = '{value}';"
        f"$('{control}').dispatchEvent(new Event('change'))"
    )


@pytest.mark.parametrize("cell", ["lstm", "rnn_tanh"])
def test_every_node_shows_what_python_has(browser, written, cell):
    found = written[1][cell]
    choose(browser, "cell", cell)
    choose(browser, "loss", 1)
    choose(browser, "unit", 2)
    unit = browser.ask("one.units[2]")
    for _ in range(2):
        browser.press("ArrowRight")
    for node in {"h_prev", "c", "i", "z_g", "h", "z"} & set(found.values):
        name, value, gradient = texts(browser, node)
        v, d = (
            np.asarray(a[node])[2, 1, unit] for a in (found.values, found.gradients)
        )
        assert name == node
        assert read(value) == pytest.approx(v, rel=0.06 if abs(v) < 1e-3 else 0.006)
        assert read(gradient) == pytest.approx(d, rel=0.06 if abs(d) < 1e-3 else 0.006)


def test_keys_step_through_the_words(browser):
    told = "$('step').textContent"
    assert browser.ask(told) == f"1 of {STEPS}: “one”"
    browser.press("ArrowRight")
    assert browser.ask(told) == f"2 of {STEPS}: “</script>”"
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    assert browser.ask(told) == f"1 of {STEPS}: “one”"
    browser.press("End")
    assert browser.ask(told) == f"{STEPS} of {STEPS}: “four”"
    assert browser.ask(
        "document.querySelector('[aria-selected=true]').textContent"
    ) == ("four")
    browser.point("#word2", click=True)
    assert browser.ask(told) == f"3 of {STEPS}: “<b>”"


def test_pointing_at_a_line_shows_its_factors_and_where_it_goes(browser, written):
    found, units = written[1]["lstm"], browser.ask("one.units")
    browser.point("[data-row$=' df']")
    assert set(lit(browser, "node")) == {"f", "c_prev"}
    assert set(lit(browser, "edge")) == {"f>c"}
    factors = browser.ask(
        "[...document.querySelectorAll('#detail .factor')]"
        ".map((e) => [e.title, e.textContent.replace(/[()]/g, '')])"
    )
    assert [name for name, _ in factors] == ["dc", "c_prev"]
    result = read(browser.ask("document.querySelector('#detail strong').textContent"))
    dc, c_prev, df = (
        float(np.asarray(a)[0, 0, units[0]])
        for a in (found.gradients["c"], found.values["c_prev"], found.gradients["f"])
    )
    assert [read(text) for _, text in factors] == pytest.approx([dc, c_prev], rel=0.006)
    assert result == pytest.approx(df, rel=0.006)

    browser.point("h1")
    assert lit(browser, "node") == []
    # By the keyboard, too: the line before is reached with the arrow.
    browser.ask("document.querySelector(\"[data-row$=' df']\").focus()")
    assert set(lit(browser, "node")) == {"f", "c_prev"}
    browser.press("ArrowUp")
    assert set(lit(browser, "edge")) == {"g>c"}


def test_a_planted_mistake_spoils_what_it_spoils(browser):
    browser.press("End")
    mistake = browser.ask(
        "one.mistakes.findIndex((m) => m.target === 'df' && m.text === 'dc')"
    )
    browser.point("[data-row$=' df']", click=True)
    choose(browser, "mistake", mistake)
    marked = "[...document.querySelectorAll('.node')].filter((e) =>"
    marked += " e.querySelector('.badge')).map((e) => e.dataset.node)"
    assert set(browser.ask(marked)) == {"f", "z_f", "x", "h_prev"}
    assert browser.ask("document.querySelector('.row ins').textContent") == "df = dc"
    told = browser.ask("$('damage-told').textContent")
    assert "4 gradients of this step are off" in told
    assert "dWx, dWh, db" in told
    browser.press("ArrowLeft")
    assert {"h", "c", "o"} <= set(browser.ask(marked))
    browser.point("#undo", click=True)
    assert browser.ask(marked) == []


def test_it_fits_a_phone(browser, written):
    browser.size(375, 700, phone=True)
    browser.open(written[0] + "#cell=lstm&t=1")
    assert browser.ask("document.documentElement.scrollWidth") <= 375
    too_wide = "[...document.querySelectorAll('body *')].filter((e) =>"
    too_wide += " e.getBoundingClientRect().right > 376).map((e) => e.outerHTML)"
    assert browser.ask(too_wide) == []
    touch = "$('graph').dispatchEvent(new TouchEvent('{}', {{"
    touch += " touches: {}, changedTouches: {}, bubbles: true }}))"
    finger = "[new Touch({{ identifier: 1, target: document.body,"
    finger += " clientX: {}, clientY: 300 }})]"
    browser.ask(touch.format("touchstart", finger.format(250), "[]"))
    browser.ask(touch.format("touchend", "[]", finger.format(100)))
    assert browser.ask("state.t") == 2


def test_it_is_dark_where_that_is_preferred(browser):
    browser.dark(True)
    browser.wait("document.documentElement.dataset.theme", "dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = browser.ask(ground)
    browser.point("#theme", click=True)
    assert browser.ask("document.documentElement.dataset.theme") == "light"
    assert browser.ask(ground) != dark


def test_pointing_moves_no_line(browser):
    place = "document.querySelector(\"[data-row$=' i']\").getBoundingClientRect().y"
    browser.point("[data-row$=' i']")
    before = browser.ask(place)
    browser.ask("scrollTo(0, 0)")
    browser.point("h1")
    browser.point("[data-row$=' i']")
    assert browser.ask(place) == before


def test_it_runs_within_another_page(browser, written, tmp_path):
    text = (tmp_path / written[0].removeprefix("file://")).read_text("utf-8")
    outer = tmp_path / "outer.html"
    outer.write_text(f'<iframe srcdoc="{escape(text)}"></iframe>', "utf-8")
    browser.open(outer.as_uri())
    inner = "document.querySelector('iframe').contentDocument"
    browser.wait(f"{inner}.readyState", "complete")
    browser.ask(f"{inner}.getElementById('on').click()")
    step = f"{inner}.querySelector('[aria-selected=true]').id"
    assert browser.ask(step) != browser.ask(f"{inner}.querySelector('.word').id")
