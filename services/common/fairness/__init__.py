"""Sharing something scarce between tenants: the holders of API keys, as gateways number them."""
