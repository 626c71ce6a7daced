"""What a site's own people do at their site, past control: see what waits, decide, read what was refused."""
