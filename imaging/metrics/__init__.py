"""Image metrics (pyiqa by name) and cheap tensor metrics."""
