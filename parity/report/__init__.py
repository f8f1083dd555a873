"""Reports: result records, lines on a terminal, a Markdown page, a plot."""
