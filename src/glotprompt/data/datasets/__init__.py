"""Published datasets by name: their files and their contents."""
