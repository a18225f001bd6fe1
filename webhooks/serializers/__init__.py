"""What webhooks look like outside, and what their API takes: one module a matter."""
