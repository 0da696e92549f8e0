"""Tools as the model is told of them: a TypeScript namespace made from JSON schemas."""
