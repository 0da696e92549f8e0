"""The skills of kimi-nano: seeded generators of questions with worked answers, in our own words."""
