"""Sharing what is scarce: between tenants (the holders of API keys, as gateways number them), or between the
threads of a process.
"""
