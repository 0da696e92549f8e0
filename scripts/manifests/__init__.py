"""Renders the Helm chart into kustomize bases and components."""
