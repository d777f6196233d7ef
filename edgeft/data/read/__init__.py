"""Where rows come from: files, folders and the hub, as a table of columns with the number of every row."""
