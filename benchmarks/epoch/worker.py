"""The process of one library: trains and predicts when it is told to."""

import time

import numpy as np

from benchmarks.epoch import Epoch, Trainer, load_trainer
from benchmarks.worker import serve


class EpochWorker:
    """What the parent can ask for."""

    epoch: Epoch
    trainer: Trainer

    def build(self, name: str, epoch: Epoch, device: str) -> None:
        """Builds a library's model."""
        self.epoch = epoch
        self.trainer = load_trainer(name, epoch, device)

    def train(self, number: int) -> tuple[float, np.ndarray]:
        """Runs a segment: its seconds and its losses."""
        start = time.perf_counter()
        losses = self.trainer.train(self.epoch.segments[number])
        return time.perf_counter() - start, losses

    def accuracy(self) -> float:
        """The share of validation reviews on the right side."""
        right = [
            (self.trainer.predict(bucket) > 0) == (bucket.labels > 0)
            for bucket in self.epoch.validation
        ]
        return float(np.mean(np.concatenate(right)))


if __name__ == "__main__":
    serve(EpochWorker())
