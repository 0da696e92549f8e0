"""What `perigee bench` asks: scenarios, prompts, agents."""
