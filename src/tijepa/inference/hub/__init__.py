"""A model that travels: what is known of it, its page, and its way to the hub and back."""

from __future__ import annotations
