"""The database backend: django-tenants' own, with the signed tenant context beside search_path."""
