"""How `perigee bench` asks an endpoint: over HTTP or gRPC."""
