"""Pure parts of the sampler; see services/engine/sampler.py."""
