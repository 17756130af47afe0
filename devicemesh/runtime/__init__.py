"""Declared against running: links, schedules, write-back and reports."""
