"""Features of frozen encoders on disk."""
