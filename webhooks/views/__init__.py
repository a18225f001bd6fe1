"""The REST API of webhooks: one module a matter."""
