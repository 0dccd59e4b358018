"""Losses, loops and one recipe per trained part."""
