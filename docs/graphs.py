"""Draw the computational graphs of the tutorial: ``python docs/graphs.py``.

Forward values are above the arrows, derivatives below. The layers of `net` compute the numbers.
"""

from html import escape
from math import hypot
from pathlib import Path

import numpy as np

from net import Add, Mul, Sigmoid, SoftmaxWithLoss

FOLDER = Path(__file__).parent / "images" / "graphs"
INK, FORWARD, BACKWARD, FILL = "#222", "#1f5fa8", "#c22f2f", "#f3f0e6"
RADIUS = 19


class Graph:
    """SVG picture of a graph, built from nodes, edges and texts."""

    def __init__(self, width: int, height: int):
        self.size = width, height
        self.parts: list[str] = []

    def text(self, x: float, y: float, text: str, color: str = INK, anchor: str = "middle") -> None:
        """Add a line of text at a point."""
        self.parts.append(
            f'<text x="{x:.0f}" y="{y + 5:.0f}" fill="{color}" text-anchor="{anchor}">'
            f"{escape(text)}</text>"
        )

    def node(self, x: float, y: float, label: str, half: float = RADIUS) -> None:
        """Add the node of an operation."""
        self.parts.append(
            f'<rect x="{x - half}" y="{y - RADIUS}" width="{2 * half}" height="{2 * RADIUS}" '
            f'rx="{RADIUS}" fill="{FILL}" stroke="{INK}" stroke-width="1.5"/>'
        )
        self.text(x, y, label)

    def edge(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        forward: str,
        backward: str = "",
        gaps: tuple[float, float] = (RADIUS, RADIUS),
        at: float = 0.5,
    ) -> None:
        """Add a forward arrow with its value, and a backward arrow with its derivative below."""
        (x0, y0), (x1, y1) = start, end
        length = hypot(x1 - x0, y1 - y0)
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        x0, y0 = x0 + ux * (gaps[0] + 3), y0 + uy * (gaps[0] + 3)
        x1, y1 = x1 - ux * (gaps[1] + 5), y1 - uy * (gaps[1] + 5)
        nx, ny = uy, -ux  # a quarter turn to the left: up, where the arrow points to the right
        mx, my = x0 + at * (x1 - x0), y0 + at * (y1 - y0)
        self._arrow(x0 + 3 * nx, y0 + 3 * ny, x1 + 3 * nx, y1 + 3 * ny, FORWARD)
        away = 15 + 14 * abs(uy)  # the ends of a text are nearer to a slanted arrow
        self.text(mx + away * nx, my + away * ny, forward, FORWARD)
        if backward:
            self._arrow(x1 - 4 * nx, y1 - 4 * ny, x0 - 4 * nx, y0 - 4 * ny, BACKWARD)
            self.text(mx - (away + 2) * nx, my - (away + 2) * ny, backward, BACKWARD)

    def _arrow(self, x0: float, y0: float, x1: float, y1: float, color: str) -> None:
        self.parts.append(
            f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{color}" '
            f'stroke-width="1.6" marker-end="url(#{color[1:]})"/>'
        )

    def save(self, name: str) -> None:
        """Write the picture to the folder of images."""
        width, height = self.size
        markers = "".join(
            f'<marker id="{color[1:]}" viewBox="0 0 8 8" refX="5" refY="4" markerWidth="6" '
            f'markerHeight="6" orient="auto"><path d="M0 0 8 4 0 8z" fill="{color}"/></marker>'
            for color in (FORWARD, BACKWARD)
        )
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="sans-serif" font-size="15">',
            f"<defs>{markers}</defs>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            *self.parts,
            "</svg>",
        ]
        (FOLDER / f"{name}.svg").write_text("\n".join(lines) + "\n", encoding="utf-8")


def number(value: float) -> str:
    """Return a number as text with at most three decimals."""
    return f"{float(value):.3f}".rstrip("0").rstrip(".").replace("-", "\N{MINUS SIGN}")


def bill() -> None:
    """Draw the graph of two apples at 100, three oranges at 150, and 10 % tax."""
    apples, oranges, fruit, taxed = Mul(), Mul(), Add(), Mul()
    a, o = apples.forward(100, 2), oranges.forward(150, 3)
    f = fruit.forward(a, o)
    b = taxed.forward(f, 1.1)
    d_fruit, d_tax = taxed.backward(1)
    d_a, d_o = fruit.backward(d_fruit)
    (d_price, d_count), (d_price2, d_count2) = apples.backward(d_a), oranges.backward(d_o)
    graph = Graph(760, 350)
    inputs = [
        ("p\N{SUBSCRIPT ONE}", 100, d_price, (28, 30), (240, 85)),
        ("n\N{SUBSCRIPT ONE}", 2, d_count, (28, 140), (240, 85)),
        ("p\N{SUBSCRIPT TWO}", 150, d_price2, (28, 200), (240, 255)),
        ("n\N{SUBSCRIPT TWO}", 3, d_count2, (28, 310), (240, 255)),
        ("r", 1.1, d_tax, (360, 310), (560, 170)),
    ]
    for name, value, derivative, (x, y), end in inputs:
        graph.text(x, y, name)
        graph.edge((x, y), end, number(value), number(derivative), at=0.3)
    graph.edge((240, 85), (400, 170), number(a), number(d_a))
    graph.edge((240, 255), (400, 170), number(o), number(d_o))
    graph.edge((400, 170), (560, 170), number(f), number(d_fruit))
    graph.edge((560, 170), (720, 170), number(b), "1", (RADIUS, 0))
    for x, y, label in ((240, 85, "×"), (240, 255, "×"), (400, 170, "+"), (560, 170, "×")):
        graph.node(x, y, label)
    graph.save("bill")


def chain() -> None:
    """Draw the chain rule: c = t^2, t = a + b, at a = 2 and b = 3."""
    node = Add()
    t = node.forward(2, 3)
    d_a, d_b = node.backward(2 * t)
    graph = Graph(620, 170)
    for name, y, value, derivative in (("a", 35, 2, d_a), ("b", 135, 3, d_b)):
        graph.text(28, y, name)
        graph.edge((30, y), (200, 85), number(value), number(derivative), at=0.3)
    graph.edge((200, 85), (390, 85), f"t = {number(t)}", f"2t = {number(2 * t)}")
    graph.edge((390, 85), (580, 85), f"c = {number(t**2)}", "1", (RADIUS, 0))
    graph.node(200, 85, "+")
    graph.node(390, 85, "t²")
    graph.save("chain")


def nodes() -> None:
    """Draw the backward passes of the nodes for sum and product."""
    graph = Graph(760, 170)
    for x, label, backward in (
        (0, "+", ("dout", "dout")),
        (390, "×", ("dout · y", "dout · x")),
    ):
        for name, y, derivative in (("x", 30, backward[0]), ("y", 140, backward[1])):
            graph.text(x + 22, y, name)
            graph.edge((x + 25, y), (x + 210, 85), "", derivative, at=0.35)
        graph.edge((x + 210, 85), (x + 350, 85), "x + y" if label == "+" else "x y", "dout",
                   (RADIUS, 0))  # fmt: skip
        graph.node(x + 210, 85, label)
    graph.save("nodes")


def affine() -> None:
    """Draw an affine layer with its shapes."""
    graph = Graph(760, 240)
    for name, start, end, forward, backward in (
        ("x", (24, 30), (270, 90), "(N, D)", "dout Wᵀ"),
        ("W", (24, 150), (270, 90), "(D, M)", "xᵀ dout"),
        ("b", (280, 215), (480, 90), "(M,)", "Σ dout"),
    ):
        graph.text(*start, name)
        graph.edge(start, end, forward, backward, (RADIUS, 26), at=0.3)
    graph.edge((270, 90), (480, 90), "(N, M)", "dout", (26, RADIUS))
    graph.edge((480, 90), (700, 90), "out (N, M)", "dout", (RADIUS, 0))
    graph.node(270, 90, "x W", 26)
    graph.node(480, 90, "+")
    graph.save("affine")


def sigmoid() -> None:
    """Draw the sigmoid of 1, node by node."""
    x = 1.0
    layer = Sigmoid()
    y = float(layer.forward(np.array([x]))[0])
    dx = float(layer.backward(np.array([1.0]))[0])
    values = [x, -x, np.exp(-x), 1 + np.exp(-x), y]
    derivatives = [-(y**2) * -np.exp(-x), -(y**2) * np.exp(-x), -(y**2), -(y**2), 1.0]
    assert np.isclose(derivatives[0], dx)
    graph = Graph(760, 110)
    graph.text(20, 55, "x")
    places = [20, 165, 310, 455, 600, 735]
    for i, (value, derivative) in enumerate(zip(values, derivatives, strict=True)):
        gaps = (26 if i else 8, 26 if i < 4 else 0)
        graph.edge((places[i], 55), (places[i + 1], 55), number(value), number(derivative), gaps)
    for x, label in zip(places[1:], ("× −1", "exp", "+ 1", "1 / □"), strict=False):
        graph.node(x, 55, label, 26)
    graph.save("sigmoid")


def softmax() -> None:
    """Draw softmax with cross-entropy for three logits; the first class is the label."""
    a, t = np.array([[2.0, 1.0, 0.1]]), np.array([[1.0, 0.0, 0.0]])
    layer = SoftmaxWithLoss()
    loss = layer.forward(a, t)
    gradient = layer.backward()
    graph = Graph(760, 210)
    for i, y in enumerate((35, 105, 175)):
        sub = chr(ord("₁") + i)
        graph.text(22, y, f"a{sub}")
        difference = f"y{sub} − t{sub} = {number(gradient[0, i])}"
        graph.edge((25, y), (255, y), number(a[0, i]), difference, (RADIUS, 45))
        graph.edge((255, y), (480, y), f"y{sub} = {number(layer.y[0, i])}", "", (45, 60))
    for x, label, half in ((255, "softmax", 45), (480, "cross-entropy", 60)):
        graph.parts.append(
            f'<rect x="{x - half}" y="15" width="{2 * half}" height="180" rx="{RADIUS}" '
            f'fill="{FILL}" stroke="{INK}" stroke-width="1.5"/>'
        )
        graph.text(x, 105, label)
    graph.edge((480, 105), (720, 105), f"L = {number(loss)}", "1", (60, 0))
    graph.text(480, 165, "t = (1, 0, 0)", FORWARD)
    graph.save("softmax")


def two_layers() -> None:
    """Draw the lecture's network with the shapes of a batch."""
    graph = Graph(900, 190)
    names = ["Affine1", "Relu1", "Affine2", "SoftmaxWithLoss"]
    places, halves = [165, 320, 475, 690], [40, 34, 40, 68]
    forward = ["x", "100×50", "100×50", "100×10", "L"]
    backward = ["", "dout", "dout", "(y − t)/N", "1"]
    ends = [(20.0, 0.0), *zip(places, halves, strict=True), (880.0, 0.0)]
    for i in range(5):
        (x0, half0), (x1, half1) = ends[i], ends[i + 1]
        graph.edge((x0, 70), (x1, 70), forward[i], backward[i], (half0, half1))
    graph.text(60, 90, "100×784", FORWARD)
    for x, half, name in zip(places, halves, names, strict=True):
        graph.node(x, 70, name, half)
    for x, i in ((165, 1), (475, 2)):
        graph.edge((x - 4, 165), (x - 4, 70), "", "")
        graph.text(x + 50, 140, f"dW{i}, db{i}", BACKWARD)
        graph.text(x - 42, 140, f"W{i}, b{i}", FORWARD)
        graph._arrow(x + 8, 92, x + 8, 160, BACKWARD)
    graph.save("two_layers")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for draw in (bill, chain, nodes, affine, sigmoid, softmax, two_layers):
        draw()
