"""The best options of a fine-tuning, by the validation split."""
