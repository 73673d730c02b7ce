# SPDX-License-Identifier: Apache-2.0
"""Semi-automatic collection of relations: a model proposes, people verify, and what they agree on becomes records."""
