"""Shared parts of the report's pages: templates, and pictures whose data are embedded in the page."""

import base64
import html
import shlex
from io import BytesIO
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from alloyscope.contracts import OWN
from alloyscope.figures.style import BLUE, COLOUR, GREEN, GREY, INK, ORANGE, PURPLE, SKY, Looks
from alloyscope.md.protocols import PROTOCOLS
from alloyscope.wording import duration, interval, mean_and_spread, number


def protocol_looks() -> Looks:
    """Colour and words of every protocol: the colour of the order that it aims at, unless that colour is taken."""
    free = [ORANGE, SKY, GREEN, GREY]
    looks: dict[str, tuple[str, str]] = {}
    for name, protocol in sorted(PROTOCOLS.items(), key=lambda item: not item[1].spelled):
        wanted = COLOUR.get(protocol.aims_at or "")
        taken = {colour for colour, _ in looks.values()}
        looks[name] = (wanted if wanted and wanted not in taken else free.pop(0) if free else INK, protocol.words)
    return dict(sorted(looks.items(), key=lambda item: item[1][0] != BLUE)) | {OWN: (PURPLE, "own structures")}


def embed(figure: Figure, alt: str, kind: str = "svg") -> Markup:
    """A figure as an <img> with embedded data."""
    buffer = BytesIO()
    with rc_context({"svg.hashsalt": alt}):
        figure.savefig(buffer, format=kind, dpi=144, metadata={"Date": None} if kind == "svg" else None)
    return _image(buffer.getvalue(), "image/svg+xml" if kind == "svg" else "image/png", alt)


def embed_pixels(pixels: NDArray[np.uint8], alt: str) -> Markup:
    """A colour picture of shape (height, width, 3) as an <img> with embedded JPEG data."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=88, subsampling=0, optimize=True)
    return _image(buffer.getvalue(), "image/jpeg", alt)


def _image(content: bytes, mime: str, alt: str) -> Markup:
    data = base64.b64encode(content).decode()
    return Markup(f'<img alt="{html.escape(alt)}" src="data:{mime};base64,{data}">')


def thousands(count: int) -> str:
    """A whole number; from five digits on, its digits are in groups of three."""
    return f"{count:,}".replace(",", "\u202f") if count >= 10_000 else str(count)


def p_value(p: float) -> str:
    """A p-value to two digits; a smaller one than 0.001 is given as "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.2f}" if p >= 0.095 else f"{p:.2g}"


def render(template: str, **content: Any) -> str:
    """Render a page from its template in data/report/."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("alloyscope", "data/report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number, "duration": duration, "thousands": thousands, "p_value": p_value}
    made.filters["quote"] = lambda word: shlex.quote(str(word))
    made.globals |= {"interval": interval, "mean_and_spread": mean_and_spread}
    return made.get_template(template).render(**content)
