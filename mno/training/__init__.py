"""Training: from a dataset's splits to a surrogate, resumable after any interruption."""
