"""What runs where the data is: agent, link to the control plane, worker, inference and the site's own memory."""
