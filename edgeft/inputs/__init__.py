"""Files and text from elsewhere, read within limits of bytes, lines, nesting and digits."""
