"""A chart of grouped bars, in SVG: rows of bars, in panels side by side, on one scale."""

from xml.sax.saxutils import escape

# Okabe and Ito's, which people tell apart who are blind to some colours.
COLORS = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442"
LEFT, PANEL, GUTTER, TOP, BAR, GAP = 150, 380, 90, 100, 13, 16

# Of each panel, and of each of its rows, the value of each of the series; None is a gap.
Panels = dict[str, dict[str, list[float | None]]]


def grouped_bars(title: str, series: list[str], panels: Panels) -> str:
    """The first of the series is written in bold; a value of 0 says that it stands still."""
    rows = list(dict.fromkeys(row for panel in panels.values() for row in panel))
    most = max([v or 0 for panel in panels.values() for row in panel.values() for v in row] + [1])
    high = BAR * len(series) + GAP
    parts = [text(20, 30, title, "font-size='17'"), *legend(series)]
    for y, row in enumerate(rows):
        middle = TOP + y * high + BAR * len(series) / 2 + 5
        parts.append(text(LEFT - 10, middle, row, "text-anchor='end'"))
    for n, (panel, values) in enumerate(panels.items()):
        x = LEFT + n * (PANEL + GUTTER)
        parts.append(text(x, TOP - 10, panel, "font-weight='bold'"))
        for y, row in enumerate(rows):
            for bar, value in enumerate(values.get(row, [])):
                parts += one_bar(x, TOP + y * high + bar * BAR, bar, value, most)
    width, height = LEFT + len(panels) * (PANEL + GUTTER), TOP + len(rows) * high
    size = f"viewBox='0 0 {width} {height}' font-family='sans-serif' font-size='13'"
    background = "<rect width='100%' height='100%' fill='white'/>"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' {size}>"
    return "\n".join([head, background, *parts, "</svg>"]) + "\n"


def legend(series: list[str]) -> list[str]:
    parts = []
    for n, name in enumerate(series):
        x, weight = LEFT + n * 130, "" if n else "font-weight='bold'"
        parts.append(f"<rect x='{x}' y='46' width='12' height='12' fill='{COLORS[n]}'/>")
        parts.append(text(x + 18, 57, name, weight))
    return parts


def one_bar(x: float, y: float, n: int, value: float | None, most: float) -> list[str]:
    if value is None:
        return []
    long = value / most * PANEL
    size = f"x='{x}' y='{y}' width='{long:.1f}' height='{BAR - 2}'"
    label = f"{value:,.0f}" if value else "stands still"
    weight = "" if n else "font-weight='bold'"
    return [
        f"<rect {size} fill='{COLORS[n]}'/>",
        text(x + long + 5, y + 10, label, f"font-size='11' {weight}"),
    ]


def text(x: float, y: float, words: str, style: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(words)}</text>"
