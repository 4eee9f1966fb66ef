"""The ratios as a picture: an SVG without any library.

For each workload a group of horizontal bars on a logarithmic scale, from 1 (as
fast as nbdkit file) to the right where faster and to the left where slower;
an upright mark where the target is.
"""
import math
from xml.sax.saxutils import escape

from report import title
from systems import BASE
from workloads import TARGETS

LEAST, MOST = 1 / 16, 16
LEFT, WIDTH, RIGHT = 420, 520, 80
BAR, GAP, TOP = 13, 16, 70
COLOURS = {"lsvd-1": "#1f5fa8", "lsvd-3": "#3f8fd8", "lsvd-ec": "#8fc4f0",
           "quorum": "#d08030", "raw": "#909090"}


def x_of(ratio):
    ratio = min(max(ratio, LEAST), MOST)
    return LEFT + WIDTH * math.log(ratio / LEAST) / math.log(MOST / LEAST)


def text(x, y, words, anchor="start", size=12, colour="#222"):
    return ('<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s" '
            'fill="%s">%s</text>' % (x, y, size, anchor, colour,
                                     escape(words)))


def target_of(workload, system):
    """As a multiple of nbdkit file; None if it is a multiple of another."""
    for t in TARGETS:
        if t.workload == workload and t.than == BASE:
            return t.at_least.get(system.policy)
    return None


def bar(y, system, ratio, target):
    a, b = sorted((x_of(1), x_of(ratio.median)))
    lines = ['<rect x="%.1f" y="%.1f" width="%.1f" height="%d" fill="%s"/>'
             % (a, y, max(b - a, 1), BAR - 2, COLOURS[system.key])]
    if ratio.least != ratio.most:  # what the runs said
        lines.append('<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" '
                     'stroke="#000" stroke-width="1"/>'
                     % (x_of(ratio.least), x_of(ratio.most), y + BAR / 2 - 1,
                        y + BAR / 2 - 1))
    lines.append(text(max(b, x_of(ratio.most)) + 4, y + BAR - 3,
                      "%.2f" % ratio.median, size=10))
    if target:
        lines.append('<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" '
                     'stroke="#c00000" stroke-width="2.5"/>'
                     % (x_of(target), x_of(target), y - 1, y + BAR - 1))
    return lines


def legend(systems):
    lines, x = [], LEFT
    for s in systems:
        lines.append('<rect x="%d" y="30" width="10" height="10" '
                     'fill="%s"/>' % (x, COLOURS[s.key]))
        lines.append(text(x + 14, 39, s.name, size=11))
        x += 24 + 7 * len(s.name)
    lines.append('<line x1="%d" x2="%d" y1="29" y2="41" stroke="#c00000" '
                 'stroke-width="2.5"/>' % (x + 4, x + 4))
    return lines + [text(x + 10, 39, "target", size=11)]


def grid(bottom):
    lines = []
    ratio = LEAST
    while ratio <= MOST:
        x = x_of(ratio)
        lines.append('<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" '
                     'stroke="%s"/>' % (x, x, TOP - 8, bottom,
                                        "#444" if ratio == 1 else "#ddd"))
        lines.append(text(x, TOP - 12, "%g" % ratio if ratio >= 1
                          else "1/%g" % (1 / ratio), "middle", 10))
        ratio *= 2
    return lines


def svg(head, figures, systems, workloads):
    systems = [s for s in systems if s.key in COLOURS]
    lines, y = [], TOP
    for w in workloads:
        rows = [(s, figures.ratio(w.key, s.key)) for s in systems]
        rows = [(s, r) for s, r in rows if not math.isnan(r.median)]
        if not rows:
            continue
        middle = y + BAR * len(rows) / 2 + 4
        lines.append(text(LEFT - 10, middle, title(w.key), "end", 11))
        for system, ratio in rows:
            lines += bar(y, system, ratio, target_of(w.key, system))
            y += BAR
        y += GAP
    body = [text(10, 18, "Multiples of nbdkit file, durable alike; commit "
                 "%(commit)s, %(date)s" % head, size=14)]
    body += legend(systems) + grid(y) + lines
    width = LEFT + WIDTH + RIGHT
    return ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" '
            'height="%d" viewBox="0 0 %d %d" font-family="sans-serif">\n'
            '<rect width="%d" height="%d" fill="#fff"/>\n%s\n</svg>\n'
            % (width, y + 10, width, y + 10, width, y + 10,
               "\n".join(body)))
