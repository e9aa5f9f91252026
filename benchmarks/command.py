"""What the commands of this folder share: errors in a line, whom to compare."""

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.measure import REFERENCE
from benchmarks.peers import Peer, missing
from benchmarks.processes import WorkerError


@contextmanager
def told() -> Generator[None]:
    """Ends the program with a line on an error that a user can do something about."""
    try:
        yield
    except (ImportError, OSError, ValueError, WorkerError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


def choose_peers(
    asked: Sequence[str], known: Mapping[str, Peer], device: str
) -> tuple[list[str], dict[str, str]]:
    """The peers to run, and those that cannot, with the reason.

    Args:
        asked: names; all that can run if there are none.
        known: peers by name.
        device: "cpu" or "gpu".

    Raises:
        ValueError: a name is not known, cannot run, or the reference is not among them.
    """
    reasons = {name: missing(peer, device) for name, peer in known.items()}
    left_out = {name: why for name, why in reasons.items() if why is not None}
    if not asked:
        return [name for name in known if name not in left_out], left_out
    for name in asked:
        if name not in known:
            raise ValueError(f"peers must be some of {list(known)}; got {name!r}")
        if name in left_out:
            raise ValueError(f"peer {name!r} cannot run: {left_out[name]}")
    if REFERENCE not in asked:
        raise ValueError(f'peers must include "{REFERENCE}"; got {list(asked)}')
    return [name for name in known if name in asked], {}
