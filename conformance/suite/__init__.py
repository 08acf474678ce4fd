"""Runs the tests of opencontainers/runtime-tools against a runtime."""
