"""Directions from everywhere: computed without labels, fitted to a user's own codes, or read from files of others."""
