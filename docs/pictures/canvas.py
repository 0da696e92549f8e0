"""Shapes and text, and the SVG they become."""

from __future__ import annotations

from html import escape

_MARGIN_RADIUS = 12
_LINE_HEIGHT = 17

# Names of colours in the sources: (light, dark). The background is drawn too, so a picture stays legible on a
# page whose theme is not the browser's.
_COLOURS = {
    "paper": ("#ffffff", "#0d1117"),
    "band": ("#f4f6f9", "#161b22"),
    "rule": ("#d0d7de", "#30363d"),
    "ink": ("#1f2328", "#e6edf3"),
    "quiet": ("#57606a", "#9da7b3"),
    "grey": ("#6e7781", "#8b949e"),
    "blue": ("#0b5cad", "#6cb6ff"),
    "purple": ("#7a3fb8", "#c297ff"),
    "orange": ("#a84b00", "#f0a45d"),
    "green": ("#1a7037", "#57c272"),
    "red": ("#b4232c", "#ff8078"),
}


class Canvas:
    """Collects elements from back to front. Lengths are in pixels, (0, 0) is the upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        self._width, self._height = width, height
        self._elements: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        colour: str = "ink",
        anchor: str = "middle",
        size: float = 13,
        bold: bool = False,
    ) -> None:
        """Lines of text, centred vertically at y. `anchor` is start, middle or end."""
        lines = text.split("\n")
        top = y - _LINE_HEIGHT * (len(lines) - 1) / 2 + size * 0.35
        weight = ' font-weight="600"' if bold else ""
        for number, line in enumerate(lines):
            self._elements.append(
                f'<text class="{colour}" x="{x:g}" y="{top + number * _LINE_HEIGHT:g}" '
                f'text-anchor="{anchor}" font-size="{size:g}"{weight}>{escape(line)}</text>'
            )

    def box(
        self, x: float, y: float, width: float, height: float, *, colour: str, fill: bool = False
    ) -> None:
        """A box with rounded corners; filled with a tint of its colour, or with the colour of bands."""
        kind = "band-fill" if fill else f"tint {colour}-line"
        self._elements.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="7"/>'
        )
        if not fill:
            self._elements.append(
                f'<rect class="{colour}-fill faint" x="{x:g}" y="{y:g}" width="{width:g}" '
                f'height="{height:g}" rx="7"/>'
            )

    def line(self, points: str, *, colour: str, dashed: bool = False, arrow: bool = False) -> None:
        """A path in SVG's notation, with an arrow's head at its end if asked for."""
        dash = ' stroke-dasharray="6 5"' if dashed else ""
        head = f' marker-end="url(#head-{colour})"' if arrow else ""
        self._elements.append(f'<path class="line {colour}-line" d="{points}"{dash}{head}/>')

    def dot(self, x: float, y: float, text: str, *, colour: str) -> None:
        """A filled circle with a short text in it."""
        self._elements.append(f'<circle class="{colour}-fill" cx="{x:g}" cy="{y:g}" r="11"/>')
        self.text(x, y, text, colour="paper", size=11.5, bold=True)

    def render(self, title: str, description: str) -> str:
        """The whole file. `title` and `description` are for those who do not see it."""
        size = f'width="{self._width:g}" height="{self._height:g}"'
        heads = "".join(
            f'<marker id="head-{name}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8"'
            f' orient="auto-start-reverse" markerUnits="userSpaceOnUse">'
            f'<path class="{name}-fill" d="M0 0 8 4 0 8z"/></marker>'
            for name in _COLOURS
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {self._width:g} '
                f'{self._height:g}" role="img" font-family="system-ui, sans-serif">',
                f"<title>{escape(title)}</title>",
                f"<desc>{escape(description.strip())}</desc>",
                f"<style>{_style(0)}@media (prefers-color-scheme: dark) {{{_style(1)}}}</style>",
                f"<defs>{heads}</defs>",
                f'<rect class="paper-fill" {size} rx="{_MARGIN_RADIUS}"/>',
                *self._elements,
                "</svg>\n",
            ]
        )


def _style(theme: int) -> str:
    rules = [".line{fill:none;stroke-width:1.6}.faint{opacity:.13}.tint{stroke-width:1.4}"]
    for name, pair in _COLOURS.items():
        shade = pair[theme]
        rules.append(f".{name},.{name}-fill{{fill:{shade}}}.{name}-line{{stroke:{shade}}}")
    # Text keeps a rim of the paper, so that lines pass behind it.
    paper = _COLOURS["paper"][theme]
    rules.append(f"text{{paint-order:stroke;stroke:{paper};stroke-width:3;stroke-linejoin:round}}")
    rules.append(f"text.paper{{stroke:none}}.tint{{fill:{paper}}}")
    return "".join(rules)
