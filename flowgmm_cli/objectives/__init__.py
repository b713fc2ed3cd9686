"""Objectives: the main losses."""
