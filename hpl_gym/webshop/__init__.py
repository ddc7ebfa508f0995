"""WebShop: a shop to search, in text, on the benchmark's own data or on a generated catalogue."""
