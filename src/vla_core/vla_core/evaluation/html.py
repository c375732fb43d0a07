# SPDX-License-Identifier: MIT
"""Building blocks of a report: a page that carries its style and pictures and loads nothing."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape

from PIL import Image

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 20px 16px 48px; background: #fff;
  color: #1c2026; font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.55rem; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 1.1rem; margin: 36px 0 10px; }
p { margin: 6px 0; max-width: 75ch; }
h1, p, figcaption, .card { overflow-wrap: anywhere; }
.muted { color: #6b7280; font-size: .88rem; }
.cards { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); gap: 10px;
  margin: 20px 0 0; }
.card { border: 1px solid #e5e7eb; border-radius: 8px; padding: 10px 12px; }
.card b { display: block; font-size: 1.35rem; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
.card span { display: block; color: #6b7280; font-size: .8rem; line-height: 1.35; }
.wide { overflow-x: auto; scrollbar-width: thin; margin-bottom: 14px;
  /* A shadow at the right edge for as long as there is more to the right. */
  background: linear-gradient(to left, #fff 14px, #fff0) right / 40px 100% no-repeat local,
    linear-gradient(to left, #0f172a40, #0f172a00) right / 16px 100% no-repeat scroll; }
.tall { max-height: 900px; overflow-y: auto; }
.wide img { display: block; width: 100%; min-width: 900px; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid #e5e7eb;
  white-space: nowrap; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
th { color: #6b7280; font-weight: 600; }
td.number, th.number { text-align: right; }
.good { color: #15803d; font-weight: 600; }
.bad { color: #b91c1c; font-weight: 600; }
.plots { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); gap: 18px;
  margin-top: 16px; }
figure { margin: 0; max-width: 560px; }
figure img { display: block; width: 100%; }
figcaption { font-size: .88rem; margin-bottom: 2px; }
figure:target { outline: 3px solid #2563eb; outline-offset: 4px; border-radius: 2px; }
a { color: #1d4ed8; }
@media (max-width: 1000px) { .plots { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 700px) { .plots { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 600px) { th, td { padding-right: 10px; }
  td.label:first-child { white-space: normal; min-width: 9.5em; line-height: 1.3; }
  .cards { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .card:last-child:nth-child(odd) { grid-column: 1 / -1; } }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """Return a whole HTML document.

    Args:
        title: Plain text.
        sections: HTML of the body.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def section(title: str, content: str) -> str:
    """Put a heading, plain text, over HTML content."""
    return f"<h2>{escape(title)}</h2>\n{content}"


def wide(content: str) -> str:
    """Let HTML content scroll sideways where the screen is narrow."""
    return f'<div class="wide">{content}</div>'


def tall(content: str) -> str:
    """Let HTML content of any length scroll within a box."""
    return f'<div class="tall">{content}</div>'


def card(value: str, label: str, *, is_good: bool = True) -> str:
    """Show one figure with its meaning, both plain text; a figure that is not good is red."""
    number = f"<b>{escape(value)}</b>" if is_good else f'<b class="bad">{escape(value)}</b>'
    return f'<div class="card">{number}<span>{escape(label)}</span></div>'


def cards(parts: Sequence[str]) -> str:
    """Lay cards out in rows of like length."""
    return _grid("cards", parts, 4)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a table.

    Args:
        head: Label of each column; one that starts with '#' aligns its column to the right.
        rows: HTML of the cells.
    """
    number = [label.startswith("#") for label in head]

    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="{"number" if right else "label" if len(value) > 20 else "word"}">'
            f"{value}</{tag}>"
            for value, right in zip(values, number, strict=True)
        )

    labels = [escape(label.removeprefix("#")) for label in head]
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return wide(f"<table><tr>{cells('th', labels)}</tr>{body}</table>")


def figures(svgs: Mapping[str, str]) -> str:
    """Lay figures out in as many columns as fit.

    Args:
        svgs: SVG by caption.
    """
    return columns([figure(drawing(svg, caption), caption) for caption, svg in svgs.items()])


def columns(parts: Sequence[str]) -> str:
    """Lay parts, HTML, out in as many columns as fit, in rows of like length."""
    return _grid("plots", parts, 3)


def figure(content: str, caption: str, *, anchor: str = "", link: str = "") -> str:
    """Put a caption, plain text, over HTML content.

    Args:
        content: HTML.
        caption: Plain text.
        anchor: Name under which a link finds the figure; it is marked when one has led there.
        link: Anchor to which the caption leads.
    """
    text = escape(caption)
    if link:
        text = f'<a href="#{escape(link)}">{text}</a>'
    name = f' id="{escape(anchor)}"' if anchor else ""
    return f"<figure{name}><figcaption>{text}</figcaption>{content}</figure>"


def drawing(svg: str, description: str) -> str:
    """Embed an SVG."""
    # As an image, because inline figures would share one name space of identifiers.
    return f'<img alt="{escape(description)}" src="{_data_uri(svg.encode(), "image/svg+xml")}">'


def picture(image: Image.Image, description: str) -> str:
    """Embed a picture, as JPEG to keep the page small."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="JPEG", quality=82)
    return f'<img alt="{escape(description)}" src="{_data_uri(buffer.getvalue(), "image/jpeg")}">'


def _grid(kind: str, parts: Sequence[str], longest: int) -> str:
    """Lay parts out in rows of like length, so that the last one seldom has a stray part."""
    num_rows = max(1, math.ceil(len(parts) / longest))
    num_columns = max(1, math.ceil(len(parts) / num_rows))
    return f'<div class="{kind}" style="--columns: {num_columns}">{"".join(parts)}</div>'


def _data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
