"""Draws the dashboard as an SVG, each panel from what a Prometheus answers, so that a person sees what it shows.

It knows what docker/grafana/board.py uses of Grafana's model: rows, stats, time series and heat maps; units, thresholds,
legends and stacking. It is no Grafana, but lays out, names and colours as that does.
"""

import html
import itertools
import math
import re
import time

COLUMN, CELL, GAP = 62, 38, 8  # pixels; Grafana's grid has 24 columns
COLORS = ["#56a64b", "#f2cc0c", "#3274d9", "#ff780a", "#e02f44", "#8f3bb8", "#0a9bb5", "#b877d9", "#7c6a46", "#37872d"]
NAMED = {"green": "#37872d", "light-green": "#96d98d", "yellow": "#f2cc0c", "red": "#c4162a", "blue": "#3274d9",
         "purple": "#8f3bb8", "orange": "#ff780a", "super-light-orange": "#ffcb7d", "text": "#8e9099"}
BLUES = ["#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b"]


# --- numbers ---------------------------------------------------------------------------------------------------------


def scaled(value, base, names, suffix=""):
    """12345 → 12.3 K."""
    index = 0
    while abs(value) >= base and index < len(names) - 1:
        value, index = value / base, index + 1
    return f"{short(value)}{names[index]}{suffix}"


def short(value):
    return f"{value:.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"


def duration(value):
    for seconds, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(value) >= seconds:
            return f"{short(value / seconds)} {name}"
    return "0 s"


def text_of(value, unit):
    """As Grafana writes a value of this unit."""
    if unit == "percentunit":
        return f"{short(value * 100)}%"
    if unit == "currencyUSD":
        return f"${value:.2f}" if abs(value) < 1000 else "$" + scaled(value, 1000, ["", "K", "M", "B"])
    if unit in ("bytes", "binBps"):
        return scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB"], "/s" if unit == "binBps" else "")
    if unit == "s":
        return duration(value)
    return scaled(value, 1000, ["", " K", " M", " B"]) + {"reqps": " req/s", "ops": " ops/s"}.get(unit, "")


def ticks(low, high, unit):
    """Three to six round numbers from `low` to `high`."""
    base = 1024 if unit in ("bytes", "binBps") else 1000
    rough = (high - low) / 4
    power = base ** math.floor(math.log(rough, base)) if base == 1024 and rough >= 1 else 10 ** math.floor(math.log10(rough))
    steps = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1024) if base == 1024 else (1, 2, 2.5, 5, 10)
    if unit == "s" and rough > 10:
        power, steps = 60, (0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 360, 720, 1440, 1440 * 7, 1440 * 30, 1440 * 365)
    step = next((power * each for each in steps if power * each >= rough), power * steps[-1])
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


# --- the picture -----------------------------------------------------------------------------------------------------


def legend(target, labels):
    template = target["legendFormat"]
    if template != "__auto":
        return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), template)
    if len(labels) == 1:
        return next(iter(labels.values()))
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}" if labels else target["expr"]


def fit(text, width, size):
    """`text` cut to `width` pixels, at the mean width of a letter."""
    letters = max(int(width / (size * 0.56)), 1)
    return text if len(text) <= letters else text[:letters - 1] + "…"


class Picture:
    """`ask(expression)`: [(labels, [(moment, value)…])…] of the time from `start` to `end`."""

    def __init__(self, ask, start, end):
        self.ask, self.start, self.end = ask, start, end
        self.out = []
        self.empty = []  # titles of panels without data

    def text(self, x, y, text, size=11, color="#52545c", anchor="start", weight="normal"):
        self.out.append(f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{color}" text-anchor="{anchor}" '
                        f'font-weight="{weight}">{html.escape(text)}</text>')

    def box(self, x, y, width, height, color, more=""):
        self.out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{color}"{more}/>')

    def draw(self, board, rows=None):
        """The SVG of the whole dashboard, or of as many of its rows."""
        shown = board["panels"]
        if rows is not None:
            heads = [index for index, panel in enumerate(shown) if panel["type"] == "row"] + [len(shown)]
            shown = shown[:heads[rows]]
        for panel in shown:
            at = panel["gridPos"]
            x, y = GAP + at["x"] * COLUMN, GAP + at["y"] * CELL
            width, height = at["w"] * COLUMN - GAP, at["h"] * CELL - GAP
            if panel["type"] == "row":
                self.text(x, y + 21, "⌄ " + panel["title"], 15, "#24292e", weight="bold")
                continue
            self.out.append(f"<g><title>{html.escape(panel['description'])}</title>")
            self.box(x, y, width, height, "#fff", ' stroke="#dcdde0" rx="2"')
            self.text(x + 8, y + 18, fit(panel["title"], width - 16, 12), 12, "#24292e", weight="bold")
            found = [(target, labels, points) for target in panel["targets"] for labels, points in self.ask(target["expr"])]
            found = [each for each in found if each[2]]
            if found:
                getattr(self, panel["type"])(panel, found, x, y, width, height)
            else:
                self.empty.append(panel["title"])
                nothing = panel["fieldConfig"]["defaults"].get("noValue", "No data")
                self.text(x + width / 2, y + height / 2 + 8, nothing, 14, "#9fa1a8", "middle")
            self.out.append("</g>")
        width = 24 * COLUMN + GAP
        height = GAP + CELL * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in shown)
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
                f'font-family="DejaVu Sans,Verdana,sans-serif"><rect width="100%" height="100%" fill="#f4f5f5"/>'
                + "\n".join(self.out) + "</svg>\n")

    def path(self, points, x, y, low, high, width, height):
        """The line through them, broken where more than a few scrapes are missing."""
        steps, previous = [], None  # (M or L, across, down)
        for moment, value in points:
            across = round(x + (moment - self.start) / (self.end - self.start) * width)
            down = round(y + height - (min(max(value, low), high) - low) / (high - low) * height)
            broken = previous is None or moment - previous > (self.end - self.start) / 20
            # In the middle of a level part a point adds nothing.
            if not broken and len(steps) > 1 and steps[-1][0] == "L" and steps[-1][2] == steps[-2][2] == down:
                steps.pop()
            steps.append(("M" if broken else "L", across, down))
            previous = moment
        return "".join(f"{kind}{across} {down}" for kind, across, down in steps)

    def stat(self, panel, found, x, y, width, height):
        defaults, options = panel["fieldConfig"]["defaults"], panel["options"]
        named = options["textMode"] == "value_and_name" or options["textMode"] == "auto" and len(found) > 1
        each = width / len(found)
        for number, (target, labels, points) in enumerate(found):
            left, value = x + number * each, points[-1][1]
            color = next(step["color"] for step in reversed(defaults["thresholds"]["steps"])
                         if step["value"] is None or value >= step["value"])
            color = NAMED[color]
            values = [point[1] for point in points]
            low, high = min(0, *values) if len(values) > 1 else 0, max(values) or 1
            if options["graphMode"] == "area" and len(points) > 1 and high > low:
                line = self.path(points, left, y + height - 45, low, high, each, 43)
                bottom = y + height - 2
                self.out.append(f'<path d="{line}V{bottom}H{left:.0f}Z" fill="{color}" opacity="0.12"/>'
                                f'<path d="{line}" fill="none" stroke="{color}" opacity="0.6"/>')
            mappings = {number: word for mapping in defaults.get("mappings", []) for number, word in mapping["options"].items()}
            text, size = mappings.get(f"{value:g}", {}).get("text") or text_of(value, defaults["unit"]), 30
            if options["textMode"] == "name":
                text = legend(target, labels)
            while len(text) * size * 0.6 > each - 16 and size > 12:
                size -= 2
            self.text(left + each / 2, y + height / 2 + 14, text, size, color, "middle", "bold")
            if named:
                self.text(left + each / 2, y + height / 2 + 34, fit(legend(target, labels), each - 8, 12), 12, anchor="middle")

    def axes(self, x, y, width, height, marks):
        """`marks`: (height from the top, text) of the vertical axis."""
        for top, text in marks:
            self.out.append(f'<path d="M{x:.0f} {y + top:.1f}h{width:.0f}" stroke="#e6e7ea"/>')
            self.text(x - 5, y + top + 4, text, 10, anchor="end")
        for part in (0.1, 0.5, 0.9):
            moment = time.strftime("%H:%M:%S", time.gmtime(self.start + part * (self.end - self.start)))
            self.text(x + part * width, y + height + 14, moment, 10, anchor="middle")

    def timeseries(self, panel, found, x, y, width, height):
        defaults = panel["fieldConfig"]["defaults"]
        custom, unit = defaults["custom"], defaults["unit"]
        lines = [points for _, _, points in found]
        if custom["stacking"]["mode"] == "normal":
            lines = stacked(lines)
        values = [value for points in lines for _, value in points]
        low = defaults["min"] if "min" in defaults else min(values)
        high = defaults["max"] if "max" in defaults else max(values)
        if high <= low:
            high = low + (abs(low) or 1)
        names = [legend(target, labels) for target, labels, _ in found]
        colors = colors_of(panel, names)
        rows = self.names(names, colors, x, y, width, height)
        left, top = x + 72, y + 32
        wide, tall = width - 84, height - 58 - 16 * rows
        self.axes(left, top, wide, tall, [((high - tick) / (high - low) * tall, text_of(tick, unit))
                                          for tick in ticks(low, high, unit)])
        # Of a stack the highest comes first, so that each stands before those that lie below it.
        for number, points in sorted(enumerate(lines), reverse=custom["stacking"]["mode"] == "normal"):
            color = colors[number]
            line = self.path(points, left, top, low, high, wide, tall)
            if custom["stacking"]["mode"] == "normal" and len(points) > 1:
                start = left + (points[0][0] - self.start) / (self.end - self.start) * wide
                whole = line.replace("M", "L").replace("L", "M", 1)
                self.out.append(f'<path d="{whole}V{top + tall:.0f}H{start:.0f}Z" fill="{color}"/>')
            self.out.append(f'<path d="{line}" fill="none" stroke="{color}" stroke-width="1.5"/>')

    def names(self, names, colors, x, y, width, height):
        """The legend, at the bottom; returns how many lines it has."""
        places, across, row = [], 0, 0
        for name in names:
            wide = len(name) * 6.2 + 30
            if across and across + wide > width - 16:
                across, row = 0, row + 1
            places.append((across, row))
            across += wide
        rows = min(row + 1, 3)
        for number, (name, (across, row)) in enumerate(zip(names, places)):
            if row < rows:
                bottom = y + height - 10 - 16 * (rows - 1 - row)
                self.box(x + 10 + across, bottom - 6, 12, 3, colors[number])
                self.text(x + 26 + across, bottom, fit(name, width - 40, 10), 10)
        return rows

    def heatmap(self, panel, found, x, y, width, height):
        del panel
        counts = sorted(((float(labels["le"]), dict(points)) for _, labels, points in found), key=lambda each: each[0])
        # Each bucket has those below it in it.
        cells = [(bound, {moment: value - (counts[index - 1][1].get(moment, 0) if index else 0)
                          for moment, value in row.items()}) for index, (bound, row) in enumerate(counts)]
        most = max((value for _, row in cells for value in row.values()), default=0) or 1
        moments = sorted(set(itertools.chain(*(row for _, row in cells))))
        left, top, wide, tall = x + 72, y + 32, width - 84, height - 58
        step = min((b - a for a, b in itertools.pairwise(moments)), default=1) / (self.end - self.start) * wide
        cell = tall / len(cells)
        self.axes(left, top, wide, tall, [(tall - (index + 0.5) * cell, duration(bound) if bound < math.inf else "+Inf")
                                          for index, (bound, _) in enumerate(cells) if index % 2 == 0])
        boxes = {}  # of each colour
        for index, (_, row) in enumerate(cells):
            for moment, value in row.items():
                if value > 0:
                    across = left + (moment - self.start) / (self.end - self.start) * wide - step
                    color = BLUES[min(1 + int(value / most * (len(BLUES) - 1)), len(BLUES) - 1)]
                    down = top + tall - (index + 1) * cell
                    boxes[color] = boxes.get(color, "") + f"M{across:.1f} {down:.1f}h{step:.1f}v{cell - 1:.1f}h-{step:.1f}z"
        self.out += [f'<path d="{path}" fill="{color}"/>' for color, path in boxes.items()]


def colors_of(panel, names):
    """Of each series: that which its name has on this panel, or the next one."""
    fixed = {each["matcher"]["options"]: NAMED[each["properties"][0]["value"]["fixedColor"]]
             for each in panel["fieldConfig"]["overrides"]}
    return [fixed.get(name, COLORS[number % len(COLORS)]) for number, name in enumerate(names)]


def stacked(lines):
    """Each line on top of those before it."""
    below, out = {}, []
    for points in lines:
        line = [(moment, value + below.get(moment, 0)) for moment, value in points]
        below.update(line)
        out.append(line)
    return out
