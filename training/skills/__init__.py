"""What kimi-nano is taught: seeded generators of questions with their worked answers, in our own words."""
