"""Describe, check, split, read, store and move data; rows never leave through here, only manifests and blobs."""
