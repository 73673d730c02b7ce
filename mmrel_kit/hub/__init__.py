# SPDX-License-Identifier: Apache-2.0
"""Publish a release on the Hub in one commit, and verify what was published.

Every call has a time-out, bounded retries and a readable error.
"""
