"""The pages about runs: sections, charts, images. No network, no script."""
