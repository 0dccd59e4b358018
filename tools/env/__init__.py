"""The developer environment, the host as a process or as modules, the page, and the checks of `dev.py test`."""
