"""What tests of the laboratory share: the signals of a terminal."""

import signal

import pytest


@pytest.fixture(autouse=True)
def signals_are_heard():
    """As in a terminal, also where the tests run under nohup, which ignores some."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    before = {kind: signal.signal(kind, handler) for kind, handler in usual.items()}
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)
