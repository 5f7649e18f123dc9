"""Attacks on the program with hostile files."""
