"""The search over a recipe's fine-tuning options: `edgeft.search.run`."""
