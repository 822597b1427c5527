"""What is on disk: files that appear whole or not at all, tensors with their metadata, and what these must say."""
