"""Make the pictures of README and guide from the committed records: `make pictures`, or name another folder.

Each is what a browser shows, in light colours, at two pixels of the picture for each of the page. The report is written
from a copy of `outputs/reference`; nothing is trained, and nothing is fetched from the network.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from PIL import Image
from playwright.sync_api import Browser, FloatRect, Page, Route, sync_playwright
from write_site import write_report

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
WIDTH = 1280  # CSS pixels: wide enough for the report's contents beside its text
FAMILY = "optimizers"  # full budget, several seeds
NOTEBOOK = "02_initialization.ipynb"
# Stands in for Colab's own badge, which only the network has.
BADGE = """<svg xmlns="http://www.w3.org/2000/svg" width="105" height="20" font-family="DejaVu Sans,Verdana,sans-serif"
font-size="11"><rect width="105" height="20" rx="3" fill="#555"/><text x="10" y="14" fill="#fff">Open in Colab</text>
</svg>"""


def main(target: Path = IMAGES) -> int:
    """Write the pictures into a folder; returns an exit code."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("No Chromium found: install your system's package chromium.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        report = write_report(Path(folder))
        notebook = write_notebook(Path(folder))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, page, photograph in (
            ("report.png", report, photograph_report),
            ("cost.png", report, photograph_cost),
            ("curves.png", report, photograph_curves),
            ("notebook.png", notebook, photograph_notebook),
        ):
            take(browser, page, photograph, target / name)
            print(target / name)
        browser.close()
    return 0


def write_notebook(folder: Path) -> Path:
    """A notebook as committed, without the cells whose code JupyterLab and Colab keep folded."""
    notebook = nbformat.read(ROOT / "notebooks" / NOTEBOOK, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if not cell.metadata.get("jupyter", {}).get("source_hidden")]
    page, _ = HTMLExporter(template_name="lab", theme="light").from_notebook_node(notebook)
    path = folder / "notebook.html"
    path.write_text(page, encoding="utf-8")
    return path


def take(browser: Browser, page: Path, photograph: Callable[[Page, Path], None], target: Path) -> None:
    """Open a page in a window of its own, light and sharp, and photograph it."""
    window = browser.new_page(
        viewport={"width": WIDTH, "height": 900}, device_scale_factor=2, color_scheme="light", reduced_motion="reduce"
    )
    window.route(lambda url: not url.startswith(("file:", "data:")), answer_offline)
    window.goto(page.as_uri())
    window.wait_for_load_state("load")
    photograph(window, target)
    window.close()


def answer_offline(route: Route) -> None:
    """Colab's badge as `BADGE`; nothing else from the network."""
    if route.request.url.endswith("colab-badge.svg"):
        route.fulfill(content_type="image/svg+xml", body=BADGE)
    else:
        route.abort()


def photograph_report(page: Page, target: Path) -> None:
    """From the title to the end of the figure of all results."""
    figure = page.locator("figure").first.bounding_box()
    assert figure is not None
    clip(page, target, bottom=figure["y"] + figure["height"] + 12)


def photograph_curves(page: Page, target: Path) -> None:
    """The learning curves of `FAMILY` and its table, with what stands between them."""
    around(page, target, f"curves-{FAMILY}", f"learning-{FAMILY}")


def photograph_cost(page: Page, target: Path) -> None:
    """Accuracy against training cost."""
    around(page, target, "cost")


def around(page: Page, target: Path, *names: str) -> None:
    """Photograph figures and tables of these names, and what stands between them."""
    parts = [box for name in names if (box := page.locator(f"#{name}").bounding_box())]
    assert len(parts) == len(names)
    clip(
        page,
        target,
        left=min(part["x"] for part in parts) - 24,
        top=min(part["y"] for part in parts) - 16,
        right=max(part["x"] + part["width"] for part in parts) + 24,
        bottom=max(part["y"] + part["height"] for part in parts) + 16,
    )


def photograph_notebook(page: Page, target: Path) -> None:
    """From the title to the end of the first cell of code, its long lines wrapped."""
    page.add_style_tag(content=".highlight pre { white-space: pre-wrap; }")
    cell = page.locator(".jp-CodeCell").first.bounding_box()
    assert cell is not None
    clip(page, target, bottom=cell["y"] + cell["height"] + 2)


def clip(page: Page, target: Path, *, left: float = 0, top: float = 0, right: float = WIDTH, bottom: float) -> None:
    """Photograph a part of the page, given in CSS pixels."""
    part = FloatRect(x=left, y=top, width=right - left, height=bottom - top)
    pixels = page.screenshot(full_page=True, clip=part)
    # 256 colours are enough for text and lines, and take a third of the bytes.
    Image.open(BytesIO(pixels)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
