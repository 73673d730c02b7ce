# SPDX-License-Identifier: Apache-2.0
"""Build a release: plan, pack shards, finish.

The output folder is replaced only after the build succeeds.
"""
