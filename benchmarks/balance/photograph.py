"""A chart as a small picture, by Chromium."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bokeh.models import LayoutDOM

__all__ = ["photograph"]

ROOT = Path(__file__).parents[2]
COLOURS = 64
FRAME = 160
"""Height in pixels that Chromium may take of its window for itself."""


def photograph(chart: LayoutDOM, picture: Path, width: int, height: int) -> None:
    """Write the chart as a PNG in few colours, which keeps the file small."""
    from bokeh.embed import file_html
    from bokeh.resources import INLINE
    from PIL import Image

    sys.path.insert(0, str(ROOT / "tests" / "reporting"))
    from browser import open_page

    with tempfile.TemporaryDirectory() as directory:
        page = Path(directory) / "page.html"
        page.write_text(file_html(chart, INLINE, picture.stem), encoding="utf-8")
        with open_page(page, width=width, height=height + FRAME) as opened:
            opened.wait_for("Boolean(window.Bokeh)")
            opened.evaluate("new Promise(done => setTimeout(() => done(true), 1500))")
            opened.screenshot(picture)
    with Image.open(picture) as image:
        seen = image.convert("RGB").crop((0, 0, width, height))
        seen.quantize(COLOURS).save(picture, optimize=True)
