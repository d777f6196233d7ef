"""Other forms of an artifact: one file with the tokenizer inside."""
