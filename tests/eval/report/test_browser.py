"""The page in a real browser: no complaint on its console, all pictures there, nothing wider than a phone."""

import json
import os
import re
import shutil
import subprocess

import pytest

from eval.report.page import write_report
from tests.eval.report.pages import write_run

PROBE = """<script>
addEventListener("load", () => {
  const images = [...document.images], root = document.documentElement;
  const charts = [...document.querySelectorAll("svg.chart")].map(chart => chart.getBoundingClientRect());
  parent.postMessage(JSON.stringify({
    width: innerWidth, wider: root.scrollWidth - root.clientWidth,
    paper: getComputedStyle(document.body).backgroundColor,
    images: images.length, broken: images.filter(image => !image.complete || !image.naturalWidth).length,
    charts: charts.length, flat: charts.filter(box => box.width < 200 || box.height < 150).length,
  }), "*");
});
</script>"""
# a window is never narrower than 500 pixels, a frame may be
FRAME = """<!DOCTYPE html><meta name="color-scheme" content="light dark"><title></title><script>
addEventListener("message", event => { document.title = event.data; });
</script><iframe src="page.html" style="width:{width}px;height:900px;border:0"></iframe>"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("no chromium on the PATH; apt-get install chromium")
    return found or pytest.skip("no chromium on the PATH")


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    write_run(root)
    return write_report(root).read_text(encoding="utf-8")


def opened(browser, path, *words):
    profile = f"--user-data-dir={path.parent / 'profile'}"
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", profile)
    done = subprocess.run(
        [browser, *flags, *words, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_the_page_as_it_is(browser, html, tmp_path):
    """With its own policy, under which nothing may be loaded or run."""
    path = tmp_path / "page.html"
    path.write_text(html, encoding="utf-8")
    shown, console = opened(browser, path)
    assert console == [] and "<h1>Evaluation of" in shown
    path.write_text(html.replace("</body>", '<img src="https://example.org/a.png" alt=""></body>'), encoding="utf-8")
    _, console = opened(browser, path)
    assert any("Content Security Policy" in line for line in console)  # that it would have been seen


@pytest.mark.parametrize(("width", "scheme", "paper"), [(360, 0, "rgb(21, 24, 28)"), (1200, 1, "rgb(255, 255, 255)")])
def test_pictures_and_widths(browser, html, tmp_path, width, scheme, paper):
    """Looked at by a script, for which the policy is taken away. Scheme 0 is dark."""
    path = tmp_path / "page.html"
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    path.write_text(bare.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.replace("{width}", str(width)))
    words = "--window-size=1300,1000", f"--blink-settings=preferredColorScheme={scheme}"
    shown, console = opened(browser, frame, *words)
    seen = json.loads(re.search("<title>(.*?)</title>", shown)[1])
    assert console == [] and seen["images"] == html.count("<img ") > 20 and seen["charts"] == html.count("<svg ") > 10
    assert (seen["broken"], seen["flat"], seen["wider"]) == (0, 0, 0)
    assert (seen["width"], seen["paper"]) == (width, paper)
