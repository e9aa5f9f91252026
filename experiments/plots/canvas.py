"""The canvas that all pictures are drawn on, its colours, and how it is saved.

Colours are Okabe & Ito's (2008), which the colour-blind tell apart.
"""

import io
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lstm_jax.files import write_whole

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"
OKABE_ITO = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", GREY)


def make_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, drawn without a screen."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    write_whole(path, buffer.getvalue())


def curve_style(number: int) -> dict[str, Any]:
    """Colour and dashes of curve `number`, 24 of them told apart."""
    return {
        "color": OKABE_ITO[number % len(OKABE_ITO)],
        "linestyle": ("-", "--", ":")[number // len(OKABE_ITO) % 3],
    }


def plain(axes: Axes) -> None:
    """Takes away the frame above and on the right."""
    axes.spines[["top", "right"]].set_visible(False)
