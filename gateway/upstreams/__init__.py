"""Connections to upstreams: pooled, suspect, and never shared while an answer is under way."""
