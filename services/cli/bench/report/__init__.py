"""What `perigee bench` makes of its records: tables and pictures."""
