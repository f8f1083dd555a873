"""What is told of a proof: result records, lines on a terminal, a Markdown page, a plot."""
