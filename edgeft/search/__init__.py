"""Searches: one engine (`engine`), and its objectives in `finetuning` and `budgeted`."""
