"""Grafana dashboards: described here, written as JSON beside by `make dashboards`."""
