"""The sentiment of reviews: the model, its training, and what a trained one says."""
