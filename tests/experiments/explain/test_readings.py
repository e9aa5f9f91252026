"""What is read, and by whom."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import explain
from experiments.explain_page import readings
from experiments.explain_page.readings import LAST, WHOLE
from experiments.sentiment import precision

pytestmark = pytest.mark.jax_defaults


def test_without_a_run_a_random_network_reads():
    with precision("float64"):
        text = "So bad, so BAD \ud800!"
        [one] = readings([], ["rnn_tanh"], text, 6)
    assert one.cell.name == "rnn_tanh"
    assert one.words == ["bad", ",", "so", "bad", "\N{REPLACEMENT CHARACTER}", "!"]
    np.testing.assert_array_equal(one.xs[0], one.xs[3])
    assert one.xs.dtype == jnp.float64
    assert "untrained" in one.about
    assert one.scores.shape == (6,)
    assert not one.dys[LAST][:-1].any()
    np.testing.assert_array_equal(one.dys[LAST][-1], one.dys[WHOLE][-1])


def test_a_text_without_words_is_refused():
    with pytest.raises(ValueError, match="no words"):
        readings([], ["rnn_tanh"], " \n ", 6)


def test_the_command_writes_a_page(tmp_path, capsys):
    out = tmp_path / "folder" / "page.html"
    runs = tmp_path / "none"
    given = ["--cells", "rnn_tanh", "--steps", "6", "--units", "2"]
    assert explain.main([*given, "--out", str(out), "--runs", str(runs)]) == 0
    text = out.read_text("utf-8")
    assert '"words":["wonderful",".","a","great","film","."]' in text
    assert "Backpropagation through time" in text
    assert explain.main([*given, "--cells", "nothing", "--out", str(out)]) != 0
    assert "cell must be one of" in capsys.readouterr().err
