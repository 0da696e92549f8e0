"""Pure parts of the sampler; see services/engine/sampling/sampler.py."""
