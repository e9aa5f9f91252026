"""The engine: a cell over sequences, and backpropagation through time."""
