"""`perigee bench`: measures an endpoint under load, and compares measurements."""
