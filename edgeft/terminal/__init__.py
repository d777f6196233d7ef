"""What is shown on a terminal: consoles for tables and bars, and text made printable."""
