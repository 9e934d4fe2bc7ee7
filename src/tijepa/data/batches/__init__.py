"""Which items a step sees, and how they become a batch."""
