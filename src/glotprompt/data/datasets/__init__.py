"""Published datasets by name: where their files are, and what is in them."""
