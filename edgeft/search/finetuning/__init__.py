"""Options of fine-tuning: the best by the validation split."""
