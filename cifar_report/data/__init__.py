"""Images for a run: sources, downloads, the decoded cache, splits, and tensors."""
