"""Slipway's settings, with room for a thousand deliveries in flight from one drainer."""

from config.settings import *  # noqa: F403

SLIPWAY["QUEUES"]["deliveries"] |= {  # noqa: F405
    "slots": 1000,
    "destination_share": 1.0,
    "lane_window": 100,
    "tenant_window": 1000,
}
