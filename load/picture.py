"""A picture of a sweep over connections: the rate, and the p99, as one SVG."""

import math

WIDTH, HEIGHT, LEFT, TOP, PANEL = 860, 340, 60, 50, 340
COLOURS = {"uniform": "#1f77b4", "hot": "#d62728", "baseline": "#7fb2d9", "baseline, hot": "#eb9c9d"}
NAMES = {"uniform": "LOMS", "hot": "LOMS, one hot SKU", "baseline": "a stored procedure per order",
         "baseline, hot": "the same, one hot SKU"}


def draw(points):
    """`points`: by side, (connections, rate, p99 in ms or None) each."""
    connections = [point[0] for point in points["uniform"]]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    parts += panel(LEFT, "orders per second", connections, {side: [(x, rate) for x, rate, _ in series] for side, series in points.items()})
    tails = {side: [(x, tail) for x, _, tail in series if tail is not None] for side, series in points.items()}
    parts += panel(LEFT + PANEL + 80, "p99, ms", connections, {side: series for side, series in tails.items() if series})
    for number, side in enumerate(points):
        x = LEFT + 200 * number
        parts.append(f'<rect x="{x}" y="{HEIGHT - 24}" width="12" height="12" fill="{COLOURS[side]}"/>')
        parts.append(f'<text x="{x + 17}" y="{HEIGHT - 14}" font-size="11">{NAMES[side]}</text>')
    return "\n".join(parts + ["</svg>"]) + "\n"


def panel(left, title, connections, sides):
    bottom, height = HEIGHT - 70, HEIGHT - 70 - TOP
    highest = max(value for series in sides.values() for _, value in series)
    step = nice_step(highest)
    top_value = step * math.ceil(highest / step)
    across = lambda count: left + PANEL * math.log2(count) / math.log2(connections[-1])
    up = lambda value: bottom - height * value / top_value
    parts = [f'<text x="{left}" y="{TOP - 20}" font-weight="bold">{title}</text>']
    for number in range(round(top_value / step) + 1):
        y = up(number * step)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + PANEL}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{number * step:,.0f}</text>')
    for count in connections:
        parts.append(f'<text x="{across(count):.1f}" y="{bottom + 18}" text-anchor="middle">{count}</text>')
    parts.append(f'<text x="{left + PANEL / 2}" y="{bottom + 34}" text-anchor="middle">connections</text>')
    for side, series in sides.items():
        line = " ".join(f"{across(count):.1f},{up(value):.1f}" for count, value in series)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[side]}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(count):.1f}" cy="{up(value):.1f}" r="3" fill="{COLOURS[side]}"/>' for count, value in series]
    return parts


def nice_step(highest):
    """A fifth of it, rounded to 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(highest / 5))
    return min((step * power for step in (1, 2, 5, 10)), key=lambda step: abs(step - highest / 5))
