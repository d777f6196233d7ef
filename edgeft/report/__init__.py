"""What is shown of figures that others measured: pages, plots, tables, statistics of answers."""
