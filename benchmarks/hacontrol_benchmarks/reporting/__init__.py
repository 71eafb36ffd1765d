"""Scores, pages and figures of results."""
