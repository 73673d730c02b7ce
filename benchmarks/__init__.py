# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of this project and its peers: `python -m benchmarks --list`.

Each benchmark is a module with a function `measure(setup)`, which yields measurements and notes;
its docstring is its text on the page.
"""
