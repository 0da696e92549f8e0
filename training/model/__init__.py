"""The model as it is trained: dense attention over packed rows, with weights under the published names."""
