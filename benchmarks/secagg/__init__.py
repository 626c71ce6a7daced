"""What secure aggregation costs a site and control, in CPU seconds, beside adding the same vectors up in the open."""
