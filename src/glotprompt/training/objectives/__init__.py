"""What is learned: objectives, their batches and losses, and how they are scored."""
