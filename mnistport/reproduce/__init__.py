"""Train whole recipes from several seeds, and compare the results with the published ones."""
