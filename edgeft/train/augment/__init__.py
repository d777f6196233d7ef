"""Data augmentation: the stage, its methods, and the filter that keeps rows whose meaning did not change."""
