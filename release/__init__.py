"""Builds, checks and publishes a release; `upload.py` is its command line."""
