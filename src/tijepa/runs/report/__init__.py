"""What the report's page is made of: sections, charts, images, style. No network, no script."""

from __future__ import annotations
