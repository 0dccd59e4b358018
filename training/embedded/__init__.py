"""The weights that ship with the pack, from generated images to files."""
