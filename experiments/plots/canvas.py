"""The canvas that all pictures are drawn on: its colours, its text, how it is saved.

A picture looks the same whatever the user's matplotlibrc says, and text from outside
is never markup. Colours are Okabe & Ito's (2008), which the colour-blind tell apart.
"""

import io
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.legible import one_line
from lstm_jax.files import write_whole

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"
OKABE_ITO = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", GREY)


P = ParamSpec("P")


def drawn(function: Callable[P, None]) -> Callable[P, None]:
    """Draws with matplotlib's own settings, in place of the user's.

    Letters that its fonts don't have are drawn as boxes, and nothing is said of it.
    """

    @wraps(function)
    def draw(*args: P.args, **kwargs: P.kwargs) -> None:
        with matplotlib.rc_context(), warnings.catch_warnings():
            matplotlib.rcdefaults()
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            function(*args, **kwargs)

    return draw


def literal(text: str, longest: int = 60) -> str:
    """Text that matplotlib draws letter for letter: a dollar sign begins no formula.

    It is on one line, and cut where it is longer: it would leave the picture no room.
    """
    return one_line(text, longest).replace("$", r"\$")


def make_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, drawn without a screen."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG, whole or not at all."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # `savefig` would go over it twice
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
