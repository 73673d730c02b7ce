# SPDX-License-Identifier: Apache-2.0
"""Build a release: plan it, write its shards, finish it.

The output folder is replaced only after the build succeeds.
"""
