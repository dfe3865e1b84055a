"""What one run does: model, weights, augmentation, optimization, loop, evaluation, checkpoint."""
