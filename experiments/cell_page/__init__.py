"""A page about a cell: what a researcher wants to see of a new one, in a minute.

=========== ====================================================================
section     what a section is, and the little HTML that all of them need
charts      curves as SVG that follows the page's colours, and bars
drawing     a computation graph as such SVG
gradients   is every gradient right? And if not, which line isn't
equations   the graph of a step; the derivation beside the hand-written lines
speed       which runner takes its steps, and what value and gradient cost
flow        how gradients vanish on the way back, or don't
learning    short trainings beside the LSTM
page        all of them in one file, and the same as a record
=========== ====================================================================
"""

from experiments.cell_page.page import Asked, make_page

__all__ = ["Asked", "make_page"]
