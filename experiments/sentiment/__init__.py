"""The sentiment of reviews: the classifier, its training, and what a trained one says.

=========== ====================================================================
config      what a run follows from, and presets
reviews     the reviews of a run
model       the classifier
objective   its loss, its predictions, its measures
training    a run
trace       its score after every word of a review
inside      what its last layer reads, and what the score asks of it
predict     scoring text with a trained one
ingredients what each part of the recipe gives
=========== ====================================================================
"""

from experiments.sentiment import ingredients
from experiments.sentiment.config import PRESETS, Config
from experiments.sentiment.inside import Inside, look_inside
from experiments.sentiment.model import (
    Committee,
    SequenceClassifier,
    first_member,
    mean_over_steps,
)
from experiments.sentiment.objective import (
    init_params,
    loss,
    make_model,
    measure,
    predict_logits,
)
from experiments.sentiment.predict import (
    Trained,
    load_scorer,
    load_trained,
    print_scores,
    read_classes,
    read_config,
    scorer,
)
from experiments.sentiment.reviews import load
from experiments.sentiment.trace import running_scores
from experiments.sentiment.training import STEPS_PER_SEGMENT, precision, train

__all__ = [
    "PRESETS",
    "STEPS_PER_SEGMENT",
    "Committee",
    "Config",
    "Inside",
    "SequenceClassifier",
    "Trained",
    "first_member",
    "ingredients",
    "init_params",
    "load",
    "load_scorer",
    "load_trained",
    "look_inside",
    "loss",
    "make_model",
    "mean_over_steps",
    "measure",
    "precision",
    "predict_logits",
    "print_scores",
    "read_classes",
    "read_config",
    "running_scores",
    "scorer",
    "train",
]
