"""Where bytes lie: the spool (local, content-addressed, resumable) and the artefact store (a folder or S3)."""
