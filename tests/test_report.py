"""The page that shows a counterexample, in a real browser; the trace for Perfetto."""

import json
import os
import threading

import chromium
import pytest

import frontrun
from frontrun import InterleavingResult

browser_needed = pytest.mark.skipif(
    chromium.EXECUTABLE is None and "FRONTRUN_NEEDS_CHROMIUM" not in os.environ,
    reason="Chromium is not installed",
)


class Account:
    def __init__(self):
        self.balance = 100
        self.notes = ""
        self.lock = threading.Lock()

    def withdraw(self, amount):
        if self.balance >= amount:
            with self.lock:
                self.notes = "</script><b>&"
                self.balance -= amount


class Counter:
    def __init__(self):
        self.value = 0

    def count(self):
        for _ in range(2500):
            self.value += 1


@pytest.fixture(scope="module")
def overdrawn():
    return frontrun.explore(Account, lambda a: a.withdraw(80), lambda a: a.balance >= 0, count=2)


@pytest.fixture(scope="module")
def page(overdrawn, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "overdrawn.html"
    overdrawn.to_html(path)
    return path


@pytest.fixture(scope="module")
def browser():
    with chromium.Chromium() as browser:
        yield browser


CURRENT = "document.querySelector('.row.current').textContent"


def move_slider(browser, step):
    browser.evaluate(
        f"(slider.value = {step}, slider.dispatchEvent(new Event('input', {{bubbles: true}})))"
    )


def test_the_page_needs_nothing_but_itself(page):
    text = page.read_text(encoding="utf-8")
    assert "http://" not in text
    assert "https://" not in text
    assert " src=" not in text


def test_what_the_program_says_cannot_break_the_page(page):
    text = page.read_text(encoding="utf-8")
    assert "</script><b>" not in text


@browser_needed
def test_the_slider_moves_the_highlighted_line(browser, page):
    browser.open(page)
    first = browser.evaluate(CURRENT)
    assert "if self.balance >= amount:" in first
    move_slider(browser, 6)
    sixth = browser.evaluate(CURRENT)
    assert sixth.startswith("6worker 0")
    assert "self.balance -= amount" in sixth
    assert browser.evaluate("document.querySelectorAll('.row.current').length") == 1
    assert browser.evaluate("document.getElementById('where').textContent") == "6 / 12"
    assert "holds lock #1" in browser.evaluate("document.getElementById('now').textContent")
    assert browser.complaints == []


@browser_needed
def test_keys_and_clicks_move_it_too(browser, page):
    browser.open(page)
    steps = []
    for key in ("ArrowRight", "PageDown", "End", "ArrowLeft", "Home", "c"):
        browser.press(key)
        steps.append(browser.evaluate("current + 1"))
    assert steps == [2, 8, 12, 11, 1, 6]
    browser.evaluate("document.querySelector('.pair').click()")
    assert browser.evaluate("current + 1") == 1
    x, y = browser.evaluate(
        "(r => [r.left + LEFT + 3.5 * 28, r.top + 40])(canvas.getBoundingClientRect())"
    )
    browser.click(x, y)
    assert browser.evaluate("current + 1") == 4
    browser.open(f"{page}#step=3")
    assert browser.evaluate(CURRENT).startswith("3")
    assert browser.complaints == []


@browser_needed
def test_it_is_light_or_dark_as_the_reader_prefers_and_can_be_switched(browser, page):
    background = "getComputedStyle(document.body).backgroundColor"
    found = []
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        browser.open(page)
        found.append(browser.evaluate(background))
        browser.press("d")
        found.append(browser.evaluate(background))
    light, dark = "rgb(255, 255, 255)", "rgb(22, 24, 29)"
    assert found == [light, dark, dark, light]
    assert browser.complaints == []


@browser_needed
def test_eight_workers_with_five_thousand_events_each(browser, tmp_path):
    result = frontrun.explore(
        Counter,
        Counter.count,
        lambda c: c.value == 20_000,
        count=8,
        strategy="walk",
        seed=1,
        reproduce_on_failure=1,
    )
    path = tmp_path / "many.html"
    result.to_html(path)
    browser.open(path)
    assert browser.evaluate("events.length") >= 40_000
    move_slider(browser, 30_000)
    assert browser.evaluate(CURRENT).startswith("30000worker")
    assert browser.evaluate("document.querySelectorAll('.row').length") < 100
    assert browser.complaints == []


@browser_needed
def test_a_deadlock_ends_with_who_waits_for_whom(browser, tmp_path):
    def worker(first, second):
        def run(locks):
            with locks[first], locks[second]:
                pass

        return run

    result = frontrun.explore(
        lambda: [threading.Lock(), threading.Lock()],
        [worker(0, 1), worker(1, 0)],
        lambda locks: True,
    )
    result.to_html(tmp_path / "deadlock.html")
    browser.open(tmp_path / "deadlock.html")
    browser.press("End")
    now = browser.evaluate("document.getElementById('now').textContent")
    assert "worker 0 waits for lock #" in now
    assert browser.complaints == []


def test_a_perfetto_trace_names_lanes_events_locks_and_conflicts(overdrawn, tmp_path):
    overdrawn.to_perfetto(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    lanes = [e["args"]["name"] for e in events if e["name"] == "thread_name"]
    assert lanes == ["worker 0", "worker 1"]
    slices = [e for e in events if e["ph"] == "X"]
    assert [e["ts"] for e in slices] == list(range(12))
    assert slices[-2]["name"] == "self.balance -= amount"
    assert slices[-2]["args"]["values"] == ["-60"]
    locks = [(e["ph"], e["tid"]) for e in events if e.get("cat") == "lock"]
    assert locks == [("b", 0), ("e", 0), ("b", 1), ("e", 1)]
    flows = [(e["ph"], e["tid"], e["name"]) for e in events if e.get("cat") == "conflict"]
    assert ("s", 1, "Account.balance") in flows
    assert ("f", 0, "Account.balance") in flows


def test_what_has_no_counterexample_gives_no_report(tmp_path, overdrawn):
    result = frontrun.explore(lambda: [0], lambda s: s[0], lambda s: True, count=2)
    overdrawn.save(tmp_path / "x.json")
    loaded = InterleavingResult.load(tmp_path / "x.json")
    for write in (result.to_html, result.to_perfetto):
        with pytest.raises(ValueError, match="there is no counterexample"):
            write(tmp_path / "x.html")
    with pytest.raises(ValueError, match="was loaded"):
        loaded.to_html(tmp_path / "x.html")
    replayed = loaded.replay(Account, [lambda a: a.withdraw(80)] * 2, lambda a: a.balance >= 0)
    replayed.to_html(tmp_path / "x.html")
    assert "CPython" in (tmp_path / "x.html").read_text(encoding="utf-8")
