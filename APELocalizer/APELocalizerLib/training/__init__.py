"""Fitting a network: core and torch only. No import in this file."""
