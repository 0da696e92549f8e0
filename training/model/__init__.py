"""The model as it is trained: dense attention over packed rows, weights in the published names."""
