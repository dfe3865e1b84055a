"""The pictures of README and guide: present, sharp, on a light background, and made by one command."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
TEXT = "".join(
    (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "docs/guide.md", "docs/index.md", "docs/findings.md")
)
SHOWN = sorted({f"docs/{path}" for path in re.findall(r"!\[[^]]+\]\((?:docs/)?(images/[^)]+)\)", TEXT)})


def check(path: Path) -> None:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"))
    height, width = pixels.shape
    assert width >= 1900  # two pixels for each of the page
    assert height >= 900
    assert np.median(pixels) > 240
    edges = [pixels[0], pixels[:, 0], pixels[:, -1], pixels[-1]]
    assert min(edge.min() for edge in edges) > 200  # nothing dark runs out of the picture


def test_every_picture_is_shown():
    assert sorted(SHOWN) == sorted(f"docs/images/{path.name}" for path in (ROOT / "docs" / "images").iterdir())


@pytest.mark.parametrize("name", SHOWN)
def test_picture_is_sharp_light_and_whole(name):
    check(ROOT / name)
