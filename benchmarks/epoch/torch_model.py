"""PyTorch: `torch.nn.LSTM` on padded batches, AdamW, one step after another."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from benchmarks.epoch import CONFIG, Epoch, Trainer, Weights
from benchmarks.peers.torch_rnn import TORCH
from benchmarks.problem import ORDERS, reorder
from experiments.data import Bucket, Segment


class Model(nn.Module):
    """Embedding, LSTM, mean and maximum of the valid steps, head."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        (vocabulary_size, D), H = weights.embedding.shape, weights.Wh.shape[0]
        self.embedding = nn.Embedding(vocabulary_size, D)
        self.layer = nn.LSTM(D, H)
        self.head = nn.Linear(2 * H, 1)
        values = {
            "embedding.weight": weights.embedding,
            "layer.weight_ih_l0": reorder(weights.Wx, ORDERS["lstm"], TORCH["lstm"]).T,
            "layer.weight_hh_l0": reorder(weights.Wh, ORDERS["lstm"], TORCH["lstm"]).T,
            "layer.bias_ih_l0": reorder(weights.b, ORDERS["lstm"], TORCH["lstm"]),
            "layer.bias_hh_l0": np.zeros_like(weights.b),
            "head.weight": weights.head[None],
            "head.bias": np.zeros(1, np.float32),
        }
        self.load_state_dict({k: tensor(v) for k, v in values.items()})
        # Two biases would learn twice as fast as the one of the other libraries.
        self.layer.bias_hh_l0.requires_grad_(False)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """The logits of a batch, (B,)."""
        ys, _ = self.layer(self.embedding(tokens.T))
        valid = (torch.arange(len(ys), device=ys.device)[:, None] < lengths)[..., None]
        mean = ys.mul(valid).sum(0) / lengths.clamp(min=1)[:, None]
        largest = ys.masked_fill(~valid, -torch.inf).amax(0)
        return self.head(torch.cat([mean, largest], -1))[:, 0]


def build(epoch: Epoch, device: str) -> Trainer:
    """The model and what trains it; its number of threads is that of OpenMP."""
    where = "cuda" if device == "gpu" else "cpu"
    model = Model(epoch.weights).to(where)
    learned = [p for p in model.parameters() if p.requires_grad]
    decay = CONFIG.weight_decay
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in learned if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=CONFIG.learning_rate,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, epoch))
    average = AveragedModel(model, multi_avg_fn=_averaged)
    data = [tuple(tensor(a).to(where) for a in bucket[:3]) for bucket in epoch.train]

    def step(tokens: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        logits = model(tokens, lengths)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
        loss.backward()
        nn.utils.clip_grad_norm_(learned, CONFIG.clip_norm)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        return loss.detach()

    def train(segment: Segment) -> np.ndarray:
        rows = torch.from_numpy(segment.indices).to(where)
        bucket = data[segment.bucket]
        losses = [step(*(part[own] for part in bucket)) for own in rows]
        return torch.stack(losses).cpu().numpy()

    def predict(bucket: Bucket) -> np.ndarray:
        with torch.no_grad():
            arrays = (tensor(a).to(where).split(256) for a in bucket[:2])
            logits = [average(*part) for part in zip(*arrays, strict=True)]
            return torch.cat(logits).cpu().numpy()

    return Trainer(train, predict)


def tensor(array: Any) -> Tensor:
    """A tensor of its own."""
    return torch.from_numpy(np.array(array))


def _rate(epoch: Epoch, step: int) -> float:
    """The learning rate of a step, as a part of the highest."""
    if step < epoch.warmup_steps:
        return step / epoch.warmup_steps
    rest = epoch.total_steps - epoch.warmup_steps
    return (1 + np.cos(np.pi * (step - epoch.warmup_steps) / rest)) / 2


@torch.no_grad()
def _averaged(averages: Any, params: Any, updates: Any) -> None:
    # The first update, which copies, does not come here: n counts from 1.
    n = float(updates)
    change = 1 - min(CONFIG.average_decay, (1 + n) / (10 + n))
    torch._foreach_lerp_(averages, params, change)
