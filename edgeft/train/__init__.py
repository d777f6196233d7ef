"""Training: the loop, fine-tuning methods, tasks and their losses, metrics, data augmentation."""
