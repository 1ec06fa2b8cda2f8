# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG, with nothing but Python: lines over a logarithmic axis, and bars."""
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 360, 60, 200, 40, 45
COLOURS = ("#1b6ca8", "#d1495b", "#edae49", "#2e8b57", "#6a4c93", "#777777")


def _ceiling(value):
    """The next round number above, and the step of the grid."""
    value = max(value, 1e-6)
    step = 1.0
    while step * 5 < value:
        step *= 10
    while step / 10 * 5 >= value:
        step /= 10
    for part in (0.2, 0.5, 1.0):
        if step * part * 6 >= value:
            step *= part
            break
    return step * -(-value // step), step


class Plot:
    def __init__(self, title, unit, most, height=HEIGHT):
        self.height = height
        self.parts = [f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}</text>']
        self.top, step = _ceiling(most)
        for i in range(int(self.top / step + 1.5)):
            y = self.y(i * step)
            self.parts += [f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" '
                           'stroke="#ddd"/>', self.text(LEFT - 6, y + 4, f"{i * step:g}", "end")]
        self.parts.append(self.text(LEFT, TOP - 6, unit))

    @staticmethod
    def text(x, y, what, anchor="start", colour="#333"):
        return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
                f"{escape(str(what))}</text>")

    def y(self, value):
        return self.height - BOTTOM - value / self.top * (self.height - BOTTOM - TOP)

    def legend(self, number, name):
        y = TOP + 12 + 20 * number
        self.parts += [f'<rect x="{WIDTH - RIGHT + 14}" y="{y - 9}" width="10" height="10" '
                       f'fill="{COLOURS[number]}"/>', self.text(WIDTH - RIGHT + 30, y, name)]

    def whisker(self, x, low, high):
        self.parts.append(f'<line x1="{x:.1f}" y1="{self.y(low):.1f}" x2="{x:.1f}" '
                          f'y2="{self.y(high):.1f}" stroke="#333" stroke-opacity="0.6"/>')

    def svg(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" '
                f'font-family="sans-serif" font-size="12">\n'
                f'<rect width="{WIDTH}" height="{self.height}" fill="white"/>\n'
                + "\n".join(self.parts) + "\n</svg>\n")


def lines(title, unit, labels, rows):
    """rows: {name: {label: (median, min, max)}}; not every row has every label."""
    plot = Plot(title, unit, max(f[2] for row in rows.values() for f in row.values()))
    width = (WIDTH - LEFT - RIGHT) / len(labels)
    at = {label: LEFT + width * (i + 0.5) for i, label in enumerate(labels)}
    for label, x in at.items():
        plot.parts.append(plot.text(x, HEIGHT - BOTTOM + 18, label, "middle"))
    for number, (name, row) in enumerate(rows.items()):
        points = [(at[label], *row[label]) for label in labels if label in row]
        path = " ".join(f"{x:.1f},{plot.y(median):.1f}" for x, median, *_ in points)
        plot.parts.append(f'<polyline points="{path}" fill="none" stroke-width="2" '
                          f'stroke="{COLOURS[number]}"/>')
        for x, median, low, high in points:
            plot.whisker(x, low, high)
            plot.parts.append(f'<circle cx="{x:.1f}" cy="{plot.y(median):.1f}" r="4" '
                              f'fill="{COLOURS[number]}"/>')
        plot.legend(number, name)
    return plot.svg()


def bars(title, unit, groups, names):
    """groups: {label: [(median, min, max) for each of names]}"""
    plot = Plot(title, unit, max(f[2] for group in groups.values() for f in group))
    width = (WIDTH - LEFT - RIGHT) / len(groups)
    each = width * 0.85 / len(names)
    for place, (label, group) in enumerate(groups.items()):
        left = LEFT + width * (place + 0.075)
        plot.parts.append(plot.text(left + each * len(names) / 2, HEIGHT - BOTTOM + 18, label,
                                    "middle"))
        for number, (median, low, high) in enumerate(group):
            x, y = left + each * number, plot.y(median)
            plot.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{each * 0.9:.1f}" '
                              f'height="{HEIGHT - BOTTOM - y:.1f}" fill="{COLOURS[number]}"/>')
            plot.whisker(x + each * 0.45, low, high)
    for number, name in enumerate(names):
        plot.legend(number, name)
    return plot.svg()
