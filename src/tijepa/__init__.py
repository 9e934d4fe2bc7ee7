"""tijepa."""
