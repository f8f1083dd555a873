"""Images and labels: where they come from, and the order in which the tutorials use them."""
