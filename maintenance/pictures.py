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
        for name, page, part in (
            ("report.png", report, lambda window: down_to(window, ".abstract", 12)),
            ("effects.png", report, lambda window: around(window, "effects")),
            ("cost.png", report, lambda window: around(window, "cost")),
            ("curves.png", report, lambda window: around(window, f"curves-{FAMILY}", f"learning-{FAMILY}")),
            ("notebook.png", notebook, lambda window: down_to(window, ".jp-CodeCell", 2)),
        ):
            take(browser, page, part, target / name)
            print(target / name)
        browser.close()
    return 0


def write_notebook(folder: Path) -> Path:
    """A notebook as committed, without the cells whose code JupyterLab and Colab keep folded; long lines wrap."""
    notebook = nbformat.read(ROOT / "notebooks" / NOTEBOOK, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if not cell.metadata.get("jupyter", {}).get("source_hidden")]
    page, _ = HTMLExporter(template_name="lab", theme="light").from_notebook_node(notebook)
    path = folder / "notebook.html"
    wrap = "<style>.highlight pre { white-space: pre-wrap; }</style>"
    path.write_text(page.replace("</head>", f"{wrap}</head>", 1), encoding="utf-8")
    return path


def take(browser: Browser, page: Path, part: Callable[[Page], FloatRect], target: Path) -> None:
    """Open a page in a window of its own, light and sharp, and photograph a part of it."""
    window = browser.new_page(
        viewport={"width": WIDTH, "height": 900}, device_scale_factor=2, color_scheme="light", reduced_motion="reduce"
    )
    window.route(lambda url: not url.startswith(("file:", "data:")), answer_offline)
    window.goto(page.as_uri())
    window.wait_for_load_state("load")
    pixels = window.screenshot(full_page=True, clip=part(window))
    # 256 colours are enough for text and lines, and take a third of the bytes. This method keeps colours of small dots.
    picture = Image.open(BytesIO(pixels)).convert("RGB")
    picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(target, optimize=True)
    window.close()


def answer_offline(route: Route) -> None:
    """Colab's badge as `BADGE`; nothing else from the network."""
    if route.request.url.endswith("colab-badge.svg"):
        route.fulfill(content_type="image/svg+xml", body=BADGE)
    else:
        route.abort()


def down_to(page: Page, selector: str, margin: int) -> FloatRect:
    """From the title to the end of the first such element."""
    box = page.locator(selector).first.bounding_box()
    return FloatRect(x=0, y=0, width=WIDTH, height=box["y"] + box["height"] + margin)


def around(page: Page, *names: str) -> FloatRect:
    """Figures and tables of these names, and what stands between them."""
    boxes = [page.locator(f"#{name}").bounding_box() for name in names]
    left, top = min(box["x"] for box in boxes) - 24, min(box["y"] for box in boxes) - 16
    right = max(box["x"] + box["width"] for box in boxes) + 24
    bottom = max(box["y"] + box["height"] for box in boxes) + 16
    return FloatRect(x=left, y=top, width=right - left, height=bottom - top)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
