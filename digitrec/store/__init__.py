"""The only room that commits bytes: layout, durable writes, manifests, aliases, verified reading."""
