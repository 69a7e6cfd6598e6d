"""The scenarios as asyncio runs them."""
