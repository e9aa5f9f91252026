"""A page to step through: a cell that reads a text, and every gradient of every step.

=========== ====================================================================
lines       a cell's equations and their reverse, line by line
forward     every value; the chain rule, edge by edge
backward    back through time, by the cell's own reverse
mistakes    what one gets wrong in a line
case        all numbers of one reading, and all texts beside them
packing     numbers in few letters
readings    what is read, and by which network
page        the file; its parts are page.html, page.css and page.js
=========== ====================================================================
"""

from experiments.explain_page.case import Reading, Trace, case_of, trace
from experiments.explain_page.page import write_page
from experiments.explain_page.readings import readings, runs_under

__all__ = [
    "Reading",
    "Trace",
    "case_of",
    "readings",
    "runs_under",
    "trace",
    "write_page",
]
