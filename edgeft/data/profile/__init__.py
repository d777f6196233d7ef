"""The profile of the rows before training: its document, page and terminal table."""
