"""`check_gradients`: a cell's own gradients against three others."""

from collections.abc import Sequence

from lstm_jax.cell import Cell
from lstm_jax.engine import MEMORIES, checks
from lstm_jax.gradcheck.claims import check_claims
from lstm_jax.gradcheck.flat_jaxpr import Program
from lstm_jax.gradcheck.form import check_form
from lstm_jax.gradcheck.oracles import DIFFERENCE_STEP
from lstm_jax.gradcheck.points import POINTS, Sizes, choose, forward_only
from lstm_jax.gradcheck.reference import VARIANTS
from lstm_jax.gradcheck.report import TOLERANCES, Report, Row, Tolerances
from lstm_jax.gradcheck.sequence import check_sequence, steps_of
from lstm_jax.gradcheck.settings import as_compared, check_differencing
from lstm_jax.gradcheck.step import ONE_STEP, check_step
from lstm_jax.initializers import check_size


def check_gradients(
    cell: Cell | str,
    *,
    input_size: int = 3,
    hidden_size: int = 4,
    batch: int = 2,
    steps: int = 5,
    seed: int = 0,
    points: int = POINTS,
    variants: Sequence[str] = VARIANTS,
    memory: str = "store",
    difference_step: float = DIFFERENCE_STEP,
    max_entries: int = 128,
    tolerances: Tolerances = TOLERANCES,
) -> Report:
    """Compares a cell's hand-derived gradients with others, in float64.

    The gradient of a random J is computed four ways: by the cell's own reverse; by
    JAX; by the computation graph (`lstm_jax.graph`); by central differences::

        dq ≈ (J(q + h) - J(q - h)) / 2h

    Of sequences, the parameters' and the first state's is computed a fifth way, carried
    forward with the steps (`lstm_jax.rtrl`), if they are few.

    First what the cell says of itself: its sizes, its initial state, that examples are
    apart, that it is linear. Then one step, where every quantity that the equations
    name is judged; if all that is right, whole sequences, as the engine runs them: what
    comes out, what is handed from step to step, and the sums over time. If only a
    sequence is wrong, each of its steps is looked at for the line. Each check ends with
    a Taylor remainder test: J(q + εv) - J(q) - ε <dq, v> is of order ε² if, and only
    if, dq is right.

    Args:
        cell: a cell with a backward.
        input_size: D.
        hidden_size: H.
        batch: B.
        steps: T; 0 checks one step alone.
        seed: of parameters, inputs, states and J.
        points: how many random points one step is checked at, at least. More are
            drawn where a branch of the forward (a maximum, an absolute value, a case)
            would be seen from one side only; a side that none of a hundred reaches is
            told in the report.
        variants: which sequences: "plain", "reverse", "lengths", "resets".
        memory: the memory policy of `lstm_jax.unroll`.
        difference_step: h.
        max_entries: a quantity with more entries is not differenced entry by entry,
            but along four random directions.
        tolerances: what passes.

    Returns:
        A `Report`; ``print(report)`` shows it whole.

    Raises:
        TypeError: if `cell` is no cell, or one of its functions fails, or returns
            something else than it must.
        ValueError: if it has no backward, or for sizes or names out of range.

    Example:
        >>> import lstm_jax as lj
        >>> report = check_gradients(lj.CELLS["rnn_tanh"], steps=0)  # one step alone
        >>> report.ok
        True
    """
    cell = checks.as_cell(cell, "manual")
    counts = {
        "input_size": input_size,
        "hidden_size": hidden_size,
        "batch": batch,
        "points": points,
    }
    for name, count in counts.items():
        check_size(name, count)
    check_size("steps", steps, least=0)
    for variant in variants:
        checks.check_choice("each of variants", variant, VARIANTS)
    check_differencing(difference_step, max_entries)
    checks.check_choice("memory", memory, MEMORIES)
    sizes = Sizes(
        input_size,
        hidden_size,
        batch,
        steps,
        seed,
        difference_step,
        max_entries,
        points,
    )
    variants = tuple(variants) if steps else ()
    with as_compared():
        backward = check_form(cell, input_size, hidden_size, batch)
        rows, orders = _check_all(cell, backward, sizes, variants, memory, tolerances)
        chosen = choose(forward_only(cell), _of_one_step(sizes))
    return Report(
        f"cell {cell.name!r}",
        rows,
        orders,
        tolerances,
        [variant for variant in variants if variant not in orders],
        points=len(chosen.points.xs),
        unreached=[str(side) for side in chosen.unreached],
    )


def _check_all(
    cell: Cell,
    backward: Program,
    sizes: Sizes,
    variants: Sequence[str],
    memory: str,
    tolerances: Tolerances,
) -> tuple[list[Row], dict[str, float]]:
    """Claims and one step; sequences, if these are right; rows, and orders by check."""

    def right(rows: Sequence[Row]) -> bool:
        return all(row.judged(tolerances).passed for row in rows)

    one = _of_one_step(sizes)
    claims = check_claims(forward_only(cell), one)
    step, order = check_step(cell, backward, one)
    rows, orders = [*claims, *step], {ONE_STEP: order}
    if not right(rows):
        return rows, orders
    for variant in variants:
        found, orders[variant] = check_sequence(cell, sizes, variant, memory)
        if not right(found):
            # Which line? The steps of this very sequence tell, if it is a step's.
            of_steps = steps_of(cell, sizes, variant)
            where = f"steps of {variant}"
            closer, order = check_step(cell, backward, one, of_steps, where)
            if not right(closer):
                rows += closer
                orders[where] = order
        rows += found
    return rows, orders


def _of_one_step(sizes: Sizes) -> Sizes:
    """The sizes as one step has them: what is found there is kept for any sequences."""
    return sizes._replace(steps=0)
