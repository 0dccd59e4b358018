"""The recipe of the weights that ship with the pack, from pictures to files; `dev.py train embedded` runs it."""
