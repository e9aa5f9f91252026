"""A gated cell's steps on GPUs: CUDA kernels, from the cell's own equations."""

from lstm_jax.engine.compiled.cuda.runner import reverse_steps, steps, why_not

__all__ = ["reverse_steps", "steps", "why_not"]
