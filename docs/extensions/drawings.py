"""Drawings of cells as SVG that follows the page's colours, light or dark.

    python -m docs.extensions.drawings

writes docs/images/lstm.svg, the README's; the build of the site warns if it is not what
the LSTM's equations give.
"""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import lstm_jax as lj
from lstm_jax.cells import lstm

README_PICTURE = Path(__file__).parent.parent / "images" / "lstm.svg"
BATCH, INPUTS, UNITS = 4, 6, 8

# What the letters of a drawing look like where no page tells: on a code host.
STANDING_ALONE = """<style>
svg { color: #1f2328; --rule: #0072B2; }
@media (prefers-color-scheme: dark) { svg { color: #e6edf3; --rule: #56B4E9; } }
</style>
"""


def step_drawing(cell: lj.Cell) -> lj.graph.Drawing:
    """A step of a cell: from its parameters, its state and x to the new state."""
    params, state = _shapes(cell)
    x = jax.ShapeDtypeStruct((BATCH, INPUTS), jnp.float32)

    def step(params: Any, state: Any, x: Any) -> Any:
        return cell.step(params, state, cell.project(params, x))[0]

    return lj.graph.render(step, params, state, x).downward()


def lstm_drawing() -> lj.graph.Drawing:
    """The LSTM's equations alone, from the products u and v to the new state."""
    params, state = _shapes(lj.LSTM)
    u = jax.ShapeDtypeStruct((BATCH, 4 * UNITS), jnp.float32)

    def equations(c_prev: Any, u: Any, v: Any) -> Any:
        return lstm.equations(params, state._replace(c=c_prev), u, v)[0]

    return lj.graph.render(equations, state.c, u, u)


def _shapes(cell: lj.Cell) -> tuple[Any, Any]:
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), INPUTS, UNITS))
    return params, jax.eval_shape(lambda p: cell.initial_state(p, (BATCH,)), params)


def svg(drawing: lj.graph.Drawing, *, alone: bool = False) -> str:
    """The SVG of a drawing, without a background, in colours that CSS decides.

    Args:
        drawing: what to draw.
        alone: as a file of its own, with colours for light and dark screens; else as
            an element of a page, which sets `color` and `--rule`.
    """
    text = drawing.svg
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = re.sub(r'<polygon fill="white" stroke="none"[^>]*/>\n', "", text)
    text = re.sub(r"<title>[^<]*</title>\n?", "", text)
    text = text.replace('fill="#0072b2"', 'style="fill: var(--rule)"')
    text = text.replace('fill="black"', 'fill="currentColor"')
    text = text.replace('stroke="black"', 'stroke="currentColor"')
    text = re.sub(r"<text(?![^>]*(?:fill|style)=)", '<text fill="currentColor"', text)
    if alone:
        opening = text.index(">") + 1
        text = text[:opening] + "\n" + STANDING_ALONE + text[opening:]
    return text


def readme_picture() -> str:
    """What README_PICTURE must hold."""
    return svg(lstm_drawing(), alone=True)


if __name__ == "__main__":
    README_PICTURE.write_text(readme_picture(), "utf-8")
