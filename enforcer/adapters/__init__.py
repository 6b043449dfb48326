"""The real systemd, kernel, Docker, host and disk behind the ports, and fakes of them."""
