"""A whole hub on this host, as processes of their own, without a browser and without Docker."""
