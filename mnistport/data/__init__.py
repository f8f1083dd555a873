"""Images and labels, and the order in which the tutorials use them."""
