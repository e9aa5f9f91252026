"""What results of a cell are of, beside their config: the file that the cell is in."""

from lstm_jax.cells import file_hash


def cell_source(name: str) -> dict[str, str]:
    """For result.json: a hash of the cell's file, where the name tells of one.

    Args:
        name: as `lstm_jax.cells.find_cell` takes it.

    Raises:
        ValueError: there is no such file or module.
    """
    hashed = file_hash(name)
    return {} if hashed is None else {"cell_file": hashed}
