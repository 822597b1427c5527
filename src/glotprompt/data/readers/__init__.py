"""Readers of files: lines, tables, records."""
