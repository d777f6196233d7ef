"""Distillation, pruning and probability calibration."""
