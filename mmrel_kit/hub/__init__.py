# SPDX-License-Identifier: Apache-2.0
"""Publish a release on the Hub in one commit, and verify the published repository.

Every call has a time-out, limited retries and a readable error.
"""
