"""The laboratory: what the library is tried on. `python -m experiments.NAME --help`.

========== ====================================================================
data       reviews, length buckets, series, text, synthetic tasks
training   many steps in one compiled scan, records, checkpoints, clean ends
tasks      small tasks, trained with several seeds and any cell
sentiment  the classifier of reviews: its model, its training, what it says
gradients  every gradient five ways, and how gradients vanish
plots      pictures
========== ====================================================================

Each of these rooms is used through its door, the package itself. Beside them stand
single modules (`checks`, `confidence`, `legible`, `optional`, `tables`, `timing`),
`command` for what the command lines share, `loading` with `load_run` for any run, and
the commands, one module each.
"""
